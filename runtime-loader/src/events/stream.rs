//! Events as an iterator, and as a descriptor for programs that wait for many things at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::{Events, Record};
use crate::maps::MapError;

/// Events as they come, until a time: made by [`Events::until`].
pub struct Stream<'e> {
    events: &'e mut Events,
    deadline: Option<Instant>,
}

impl Events {
    /// An iterator that waits for events until `deadline`; without one it never ends.
    ///
    /// Items are errors when the ring buffer cannot be waited for; the iterator may be asked again.
    pub fn until(&mut self, deadline: Option<Instant>) -> Stream<'_> {
        Stream { events: self, deadline }
    }
}

/// Readable when an event is waiting, for `poll` and its relatives; take the events with [`Events::waiting`]
/// until there is none.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<Record, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.events.next(self.deadline).transpose()
    }
}
