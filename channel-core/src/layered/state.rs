//! What any thread may ask about a layer without taking a lock.

use std::sync::atomic::{AtomicU32, Ordering};

use bitflags::bitflags;

use crate::News;

bitflags! {
    /// Facts about a layer. Those about a direction are written under that direction's lock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Facts: u32 {
        /// The time before data is over: the handshake has completed, or failed for good.
        const OPEN = 1 << 0;
        /// A read can give something without the inner channel.
        const HELD = 1 << 1;
        /// The stream to us ended, cleanly or not: a read says so.
        const READ_DONE = 1 << 2;
        /// Output that is not corked waits for the inner channel.
        const UNSENT = 1 << 3;
        /// Writes fail: a write says why.
        const WRITE_DONE = 1 << 4;
        /// The write handler was told of that.
        const WRITE_TOLD = 1 << 10;
        /// We shut down reading ourselves: an end is no truncation.
        const SHUT_READ = 1 << 5;
        /// `close` has let go of the inner channel.
        const CLOSED = 1 << 6;
        /// The handshake waits for nothing but its last bytes to leave.
        const LEAVING = 1 << 8;
        /// Writes gather.
        const CORKED = 1 << 7;
        /// The handlers have a timer for the limit that runs.
        const TIMED = 1 << 11;
        /// The layer below has yet to push what a drain or an ending waits for.
        const BELOW = 1 << 9;
        /// The stream to us ended as its protocol wants it.
        const ENDED = 1 << 12;
        /// `close` has begun: new reads and writes are refused.
        const CLOSING = 1 << 13;
        /// `close` waits for something to read from the inner channel.
        const CLOSE_READS = 1 << 14;
        /// `close` waits for the inner channel to take something, or to be closed.
        const CLOSE_WRITES = 1 << 15;
        /// It is open, and its protocol has a closing handshake.
        const SHAKES_HANDS = 1 << 16;
        /// Our end has left; the inner channel is to be ended when the peer's has come.
        const BELOW_OPEN = 1 << 17;
        /// Our end has left and asks for the peer's: silence is measured.
        const AWAITS_END = 1 << 18;
        /// The handshake failed, and the peer was told why: that is on its way.
        const REFUSED = 1 << 19;
        /// The stream to us ended because the peer was silent for too long behind our end.
        const SILENT = 1 << 20;
        /// Something was set that who sleeps in a read depends on, and nobody has told yet.
        const NEWS_READ = 1 << 21;
        /// Likewise for who sleeps in a write, or in `close`.
        const NEWS_WRITE = 1 << 22;
        /// Likewise: output that the inner channel did not take.
        const NEWS_UNSENT = 1 << 23;
    }
}

impl Facts {
    /// What is news when these are set.
    fn news(self) -> Self {
        let mut news = Self::empty();
        news.set(Self::NEWS_READ, self.intersects(Self::OPEN | Self::HELD | Self::READ_DONE | Self::AWAITS_END));
        news.set(Self::NEWS_WRITE, self.contains(Self::WRITE_DONE));
        news.set(Self::NEWS_UNSENT, self.intersects(Self::UNSENT | Self::LEAVING));
        if self.intersects(Self::CLOSING | Self::CLOSE_READS | Self::CLOSE_WRITES | Self::CLOSED) {
            news |= Self::NEWS_READ | Self::NEWS_WRITE;
        }
        news
    }
}

/// The facts, shared.
#[derive(Debug)]
pub(super) struct SharedFacts(AtomicU32);

impl SharedFacts {
    pub(super) fn new(facts: Facts) -> Self {
        Self(AtomicU32::new(facts.bits()))
    }

    pub(super) fn load(&self) -> Facts {
        Facts::from_bits_retain(self.0.load(Ordering::Acquire))
    }

    pub(super) fn has(&self, facts: Facts) -> bool {
        self.load().contains(facts)
    }

    /// Takes the news that nobody has told yet; touches the shared word only where there are any.
    pub(super) fn take_news(&self) -> News {
        const ALL: Facts = Facts::NEWS_READ.union(Facts::NEWS_WRITE).union(Facts::NEWS_UNSENT);
        if !self.load().intersects(ALL) {
            return News::empty();
        }
        let taken = Facts::from_bits_retain(self.0.fetch_and(!ALL.bits(), Ordering::AcqRel));
        let mut news = News::empty();
        news.set(News::READ, taken.contains(Facts::NEWS_READ));
        news.set(News::WRITE, taken.contains(Facts::NEWS_WRITE));
        // Who was at it may have sent it since.
        news.set(News::UNSENT, taken.contains(Facts::NEWS_UNSENT) && taken.intersects(Facts::UNSENT | Facts::LEAVING));
        news
    }

    /// Sets or clears `facts`; touches the shared word only where something changes.
    pub(super) fn set(&self, facts: Facts, to: bool) {
        if to {
            let new = facts - self.load();
            if !new.is_empty() {
                self.0.fetch_or((facts | new.news()).bits(), Ordering::AcqRel);
            }
        } else if (self.load() & facts).contains(Facts::UNSENT) {
            // Who waits for the last of it to be gone need not be who sent that.
            let sent = |bits| Some((bits & !facts.bits()) | Facts::NEWS_WRITE.bits());
            let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, sent);
        } else if self.load().intersects(facts) {
            self.0.fetch_and(!facts.bits(), Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_so_is_news_once_and_so_is_that_all_was_sent() {
        let facts = SharedFacts::new(Facts::OPEN);
        assert_eq!(facts.take_news(), News::empty());
        facts.set(Facts::UNSENT | Facts::HELD, true);
        assert_eq!(facts.take_news(), News::READ | News::UNSENT);
        facts.set(Facts::UNSENT | Facts::HELD, true);
        assert_eq!(facts.take_news(), News::empty());
        facts.set(Facts::UNSENT, false);
        assert_eq!(facts.take_news(), News::WRITE);
        facts.set(Facts::UNSENT, true);
        facts.set(Facts::UNSENT, false);
        assert_eq!(facts.take_news(), News::WRITE, "what was sent meanwhile is left to nobody");
    }
}
