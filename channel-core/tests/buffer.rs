//! The buffer beside a vector that does the same.

use channel_core::Buffer;
use proptest::prelude::*;

/// One thing to do.
#[derive(Clone, Debug)]
enum Step {
    Extend(usize),
    /// Of this much room that much is filled in.
    Space(usize, usize),
    Consume(usize),
    Truncate(usize),
    Shrink(usize),
    Release,
    Clear,
}

/// Around the sizes at which something happens: none, little, a piece of the pool, more than one.
fn size() -> impl Strategy<Value = usize> {
    let around = |size: usize| (size.saturating_sub(2)..size + 3).boxed();
    prop_oneof![around(0), around(100), around(2048), around(68 * 1024 / 2), around(68 * 1024), around(200_000)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        size().prop_map(Step::Extend),
        (size(), size()).prop_map(|(room, used)| Step::Space(room, used)),
        size().prop_map(Step::Consume),
        size().prop_map(Step::Truncate),
        size().prop_map(Step::Shrink),
        Just(Step::Release),
        Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn holds_what_a_vector_holds(steps in prop::collection::vec(step(), 1..60)) {
        let (mut buffer, mut model) = (Buffer::new(), Vec::new());
        for (mark, step) in steps.into_iter().enumerate() {
            let mark = u8::try_from(mark).unwrap();
            match step {
                Step::Extend(count) => {
                    buffer.extend(&vec![mark; count]);
                    model.resize(model.len() + count, mark);
                }
                Step::Space(room, used) => {
                    let space = buffer.space(room);
                    prop_assert!(space.len() >= room);
                    let used = used.min(space.len());
                    space[..used].fill(mark);
                    buffer.commit(used);
                    model.resize(model.len() + used, mark);
                }
                Step::Consume(count) => {
                    let count = count.min(model.len());
                    buffer.consume(count);
                    model.drain(..count);
                }
                Step::Truncate(count) => {
                    let count = count.min(model.len());
                    buffer.truncate_by(count);
                    model.truncate(model.len() - count);
                }
                Step::Shrink(most) => buffer.shrink(most),
                Step::Release => buffer.release(),
                Step::Clear => {
                    buffer.clear();
                    model.clear();
                }
            }
            prop_assert!(buffer.as_slice() == &model[..] && buffer.as_mut_slice() == &model[..]);
            prop_assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
        }
    }
}
