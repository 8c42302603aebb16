//! Which cases are tried, and how often.

use std::time::Duration;

use channel_core::Shutdown;
use channel_testkit::adverse::HARMLESS;
use proptest::collection::vec;
use proptest::prelude::*;

use super::case::{Bounds, Case, End, Layer, Leaf, Op, Role, Room, Side, Waits};

/// Long enough never to run out in a case that goes as it should: whoever waits for it is seen to hang before.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    (leaf(), vec(layer(), 0..=3), bounds(), end(), end())
        .prop_map(|(leaf, layers, bounds, near, far)| Case { leaf, layers, bounds, ends: [near, far] }.tamed())
}

/// The ordinary client of a request-and-answer protocol: one thread sleeps in `read`, another corks, writes a request and uncorks.
pub(crate) fn sleepers() -> impl Strategy<Value = Case> {
    let request = prop_oneof![1000..100_000_usize, 100_000..700_000_usize];
    let sent = prop_oneof![
        request.clone().prop_map(|size| vec![Op::Cork(true), Op::Write(size), Op::Cork(false), Op::Meet]),
        request.prop_map(|size| vec![Op::WriteNow(size), Op::Meet]),
    ];
    let limits = bounds().prop_map(|bounds| Bounds { linger: LONG, ..bounds });
    (leaf(), vec(layer(), 1..=2), limits, sent, steps(2)).prop_map(|(leaf, layers, bounds, request, before)| {
        let size = |step: &Op| if let Op::Write(size) | Op::WriteNow(size) = step { *size } else { 0 };
        let asked = request.iter().map(size).sum();
        let near = End { waits: Waits::Blocking, threads: [request, vec![Op::Read(1), Op::Meet]] };
        let answer = vec![Op::Meet, Op::Write(1)];
        let mut serving = before;
        serving.retain(|step| matches!(step, Op::Read(_) | Op::ReadNow(_)));
        serving.extend([Op::Read(asked), Op::Meet]);
        let far = End { waits: Waits::Blocking, threads: [answer, serving] };
        Case { leaf, layers, bounds, ends: [near, far] }.tamed()
    })
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let room = || prop_oneof![2 => Just(Room::Ample), 1 => Just(Room::Small)];
    prop_oneof![
        4 => prop_oneof![1000..70_000_usize, 1..1000_usize].prop_map(Leaf::Memory),
        2 => room().prop_map(Leaf::Socketpair),
        2 => room().prop_map(Leaf::Pipe),
        1 => room().prop_map(Leaf::Unix),
        3 => Just(Leaf::Tcp),
    ]
}

fn layer() -> impl Strategy<Value = Layer> {
    let role = || prop_oneof![Just(Role::Client), Just(Role::Server)];
    let half_close = prop_oneof![3 => Just(false), 1 => Just(true)];
    let side = prop_oneof![Just(Side::Near), Just(Side::Far)];
    prop_oneof![
        4 => (role(), half_close).prop_map(|(role, half_close)| Layer::Ws(role, half_close)),
        2 => role().prop_map(Layer::Tls),
        1 => (0..HARMLESS.len(), side).prop_map(|(kind, side)| Layer::Adverse(kind, side)),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let linger = prop_oneof![4 => Just(LONG), 1 => (20..200_u64).prop_map(Duration::from_millis)];
    let queued = prop_oneof![2 => Just(256 * 1024), 2 => 1000..100_000_usize, 1 => 1..1000_usize];
    // A TLS record must fit, with its header and tag.
    let input = prop_oneof![1 => Just(256 * 1024), 1 => 17_000..50_000_usize];
    (linger, queued, input).prop_map(|(linger, queued_bytes, input_bytes)| Bounds { linger, queued_bytes, input_bytes })
}

fn end() -> impl Strategy<Value = End> {
    let waits = prop_oneof![
        3 => Just(Waits::Blocking),
        2 => Just(Waits::NonBlocking),
        2 => Just(Waits::Handlers),
        2 => Just(Waits::Tasks),
    ];
    let both_close = prop_oneof![3 => Just(false), 1 => Just(true)];
    (waits, steps(7), steps(5), both_close).prop_map(|(waits, mut first, mut second, both_close)| {
        if both_close {
            first.extend([Op::Meet, Op::Close]);
            second.extend([Op::Meet, Op::Close]);
        }
        End { waits, threads: [first, second] }
    })
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..100_usize, 3 => 100..10_000_usize, 2 => 10_000..150_000_usize]
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let step = prop_oneof![
        10 => size().prop_map(Op::Write),
        5 => size().prop_map(Op::WriteNow),
        5 => size().prop_map(Op::Read),
        3 => size().prop_map(Op::ReadNow),
        1 => size().prop_map(Op::Lend),
        2 => Just(Op::Cork(true)),
        2 => Just(Op::Cork(false)),
        3 => Just(Op::Flush),
        1 => Just(Op::Ping),
        1 => Just(Op::KeyUpdate),
        1 => any::<bool>().prop_map(Op::Blocking),
        3 => Just(Op::Move),
        3 => Just(Op::Meet),
        2 => (0..200_u64).prop_map(Op::Pause),
        1 => Just(Op::CloseWrite),
        2 => Just(Op::Close),
        1 => (0..100_u64).prop_map(Op::CloseBy),
        1 => prop_oneof![Just(Shutdown::Write), Just(Shutdown::Read), Just(Shutdown::Both)].prop_map(Op::Shutdown),
    ];
    vec(step, 0..=most)
}
