//! Looking at a whole stack.

use crate::Channel;

/// The layers of the stack below and including `channel`, from the top down.
pub fn layers(channel: &dyn Channel) -> Layers<'_> {
    Layers { next: Some(channel) }
}

/// Iterator over the layers of a stack, from the top down; made by [`layers`].
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    next: Option<&'a dyn Channel>,
}

impl<'a> Iterator for Layers<'a> {
    type Item = &'a dyn Channel;

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.next?;
        self.next = current.next_layer();
        Some(current)
    }
}

/// The channel at the bottom of the stack.
#[must_use]
pub fn lowest_layer(channel: &dyn Channel) -> &dyn Channel {
    layers(channel).last().unwrap_or(channel)
}

/// The topmost layer that is a `T`.
///
/// ```
/// use channel_core::{Channel, MemoryChannel, find_layer};
///
/// let (near, _far) = MemoryChannel::pair()?;
/// let boxed: Box<dyn Channel> = Box::new(near);
/// assert!(find_layer::<MemoryChannel>(&boxed).is_some());
/// # Ok::<(), channel_core::Error>(())
/// ```
#[must_use]
pub fn find_layer<T: Channel>(channel: &dyn Channel) -> Option<&T> {
    layers(channel).find_map(|layer| layer.as_any().downcast_ref())
}

/// The topmost layer by itself, if it is a `T`; to take it off its stack, say ([`Layered::into_parts`](crate::Layered::into_parts)). One that an
/// `Arc` shares stays where it is.
///
/// ```
/// use channel_core::{Channel, MemoryChannel, NullChannel, downcast};
///
/// let boxed: Box<dyn Channel> = Box::new(NullChannel::new());
/// let boxed = downcast::<MemoryChannel>(boxed).unwrap_err();
/// let null: Box<NullChannel> = downcast(boxed).unwrap();
/// ```
///
/// # Errors
/// `channel` comes back where it is none.
///
/// # Panics
/// If [`Channel::into_any`] of a foreign channel gives another type than its [`Channel::as_any`].
pub fn downcast<T: Channel>(channel: Box<dyn Channel>) -> Result<Box<T>, Box<dyn Channel>> {
    // What passes calls on shows the type behind it, in another place.
    if !channel.as_any().is::<T>() || !std::ptr::addr_eq(channel.as_any(), &raw const *channel) {
        return Err(channel);
    }
    match channel.into_any().downcast() {
        Ok(channel) => Ok(channel),
        Err(_) => panic!("a channel whose `into_any` gives another type than its `as_any`"),
    }
}

/// The whole stack in one line, from the top down, such as `websocket client / tls client TLSv1.3 … / tcp 127.0.0.1:40000 -> 127.0.0.1:443`.
#[must_use]
pub fn describe(channel: &dyn Channel) -> String {
    let lines: Vec<String> = layers(channel).map(Channel::describe_layer).collect();
    lines.join(" / ")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryChannel, NullChannel};

    #[test]
    fn a_channel_goes_by_value_and_one_that_is_shared_or_of_another_type_stays() {
        let boxed = || -> Box<dyn Channel> { Box::new(NullChannel::new()) };
        assert!(downcast::<NullChannel>(boxed()).is_ok());
        assert_eq!(downcast::<MemoryChannel>(boxed()).unwrap_err().layer(), "null");
        let shared = Arc::new(NullChannel::new());
        let same = downcast::<NullChannel>(Box::new(Arc::clone(&shared))).unwrap_err();
        assert!(same.as_any().is::<NullChannel>());
        assert!(downcast::<Arc<NullChannel>>(same).is_err(), "it is seen as what it points to");
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
