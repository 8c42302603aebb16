#![doc = include_str!("../docs/contract.md")]

/// Links the promises that a doc comment cites, as `[[R1]]`, to the contract: `#[doc = channel_core::promises!(R1 R2)]` below the comment.
#[doc(hidden)]
#[macro_export]
macro_rules! promises {
    ($($number:ident)+) => {
        ::core::concat!("\n", $("\n[", ::core::stringify!($number), "]: channel_core::contract#", ::core::stringify!($number)),+)
    };
}
