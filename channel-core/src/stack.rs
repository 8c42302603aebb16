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

/// The whole stack in one line, from the top down, such as `websocket client / tls client TLSv1.3 … / tcp 127.0.0.1:40000 -> 127.0.0.1:443`.
#[must_use]
pub fn describe(channel: &dyn Channel) -> String {
    let lines: Vec<String> = layers(channel).map(Channel::describe_layer).collect();
    lines.join(" / ")
}
