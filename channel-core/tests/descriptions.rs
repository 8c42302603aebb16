//! What channels, and what belongs to them, say of themselves.

mod support;

use std::sync::Arc;

use channel_core::engine::Encoder;
use channel_core::{
    AioHandler, BufferChannel, Channel, Error, ErrorKind, EventLoop, Features, MemoryChannel, NullChannel,
};
use support::{Plain, plain};

#[test]
fn every_channel_has_the_name_that_was_set_and_says_what_it_is() {
    let (memory, _far) = MemoryChannel::pair().unwrap();
    let (below, _far_below) = MemoryChannel::pair().unwrap();
    let channels: [(&str, Box<dyn Channel>); 4] = [
        ("memory", Box::new(memory)),
        ("buffer", Box::new(BufferChannel::new())),
        ("null", Box::new(NullChannel::new())),
        ("plain", Box::new(plain("plain", below))),
    ];
    for (layer, channel) in channels {
        assert_eq!((channel.layer(), channel.name()), (layer, None));
        assert!(channel.describe_layer().contains(layer), "{layer}: {}", channel.describe_layer());
        channel.set_name("console");
        assert_eq!(channel.name().as_deref(), Some("console"), "{layer}");
        let (has, lacks) = (channel.features(), Features::all() - channel.features());
        assert!(has.iter().all(|feature| channel.why_not(feature).is_none()), "{layer}");
        assert!(lacks.iter().all(|feature| channel.why_not(feature).is_some()), "{layer}");
        assert!(format!("{channel:?}").contains("console"), "{channel:?}");
    }
}

#[test]
fn a_buffer_can_be_sought_and_written_to_its_end_and_nothing_else() {
    let features = BufferChannel::new().features();
    assert!(features.contains(Features::SEEKABLE | Features::CLOSE_WRITE | Features::SHUTDOWN), "{features:?}");
    assert!(!features.intersects(Features::FD_PASS | Features::LISTEN | Features::WRITE_ZERO_COPY), "{features:?}");
}

#[test]
fn an_engine_that_does_not_say_has_units_of_16_kib() {
    assert_eq!(Plain.unit(), 16 * 1024);
}

#[test]
fn a_handler_shows_its_loop() {
    let event_loop = EventLoop::new().unwrap();
    let handler = AioHandler::new(event_loop.handle() as Arc<_>, || ());
    let shown = format!("{handler:?}");
    assert!(shown.contains("AioHandler") && shown.contains("LoopHandle"), "{shown}");
}

#[test]
fn an_error_is_of_its_own_kind_alone() {
    type Is = fn(&Error) -> bool;
    let kinds: [(ErrorKind, Is); 5] = [
        (ErrorKind::NotOpen, Error::is_not_open),
        (ErrorKind::Busy, Error::is_busy),
        (ErrorKind::Closed, Error::is_closed),
        (ErrorKind::TimedOut, Error::is_timed_out),
        (ErrorKind::Unsupported, Error::is_unsupported),
    ];
    for (kind, _) in kinds {
        let error = Error::new(kind, "layer", "");
        let is: Vec<ErrorKind> = kinds.iter().filter(|(_, is)| is(&error)).map(|(kind, _)| *kind).collect();
        assert_eq!(is, [kind]);
    }
}
