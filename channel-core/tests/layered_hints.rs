//! Hints go down to the channel that knows what to make of them.

mod support;

use channel_core::{Channel, ChannelExt, MemoryChannel};
use channel_testkit::adverse;
use support::plain;

#[test]
fn delay_and_cork_reach_the_lowest_channel_and_nothing_else_does_it_for_them() {
    let (leaf, far) = MemoryChannel::pair().unwrap();
    let (leaf, log) = adverse::record(Box::new(leaf));
    let near = plain("upper", plain("lower", leaf));
    let told = |method: &str| log.of(method).iter().map(|call| call.asked).collect::<Vec<_>>();
    log.clear();
    near.set_delay(false);
    near.set_delay(true);
    assert_eq!(told("set_delay"), [0, 1]);

    near.set_cork(true);
    assert_eq!(told("set_cork"), [1]);
    near.write_all(b"gathered").unwrap();
    assert!(log.of("writev_full").is_empty(), "a corked layer gathers");
    near.set_cork(false);
    assert_eq!(told("set_cork"), [1, 0]);
    let calls = log.calls();
    let place = |method: &str| calls.iter().rposition(|call| call.method == method).unwrap();
    assert!(place("writev_full") < place("set_cork"), "what was gathered goes before the cork is out below");
    far.read_all(&mut [0; 8]).unwrap();
}
