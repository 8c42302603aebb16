//! Enums whose values are words of a command line and of its output.

use channel_stack::UnknownStack;

/// A request that makes no sense, in one line for the person who made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<UnknownStack> for Refusal {
    fn from(unknown: UnknownStack) -> Self {
        Self(unknown.to_string())
    }
}

/// Declares such an enum: `parse` from the value of a key, and `Display`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            pub(crate) fn parse(key: &str, word: &str) -> Result<Self, $crate::words::Refusal> {
                match word {
                    $($word => Ok(Self::$value),)+
                    _ => {
                        let choice = [$($word),+].join(", ");
                        Err($crate::words::Refusal(format!("{key}={word}: choose one of {choice}")))
                    }
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$value => $word,)+
                })
            }
        }
    };
}
pub(crate) use words;
