//! What a lookup answers.

/// An index into the list of adjacencies; 0 is [`NextHop::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct NextHop(pub u16);

impl NextHop {
    /// No route. It is 0, so that entry 0 of an adjacency list can say what happens to such packets.
    pub const NONE: NextHop = NextHop(0);
    /// The highest that a route can have: an IPv4 cell has 15 bits for it.
    pub const MAX: NextHop = NextHop(0x7fff);

    /// The index, for the adjacency list.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
