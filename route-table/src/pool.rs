//! Which of a limited number of indexes the writer may take: for nodes and groups of cells, whose memory stands apart.
//!
//! What is unlinked is *retired*: readers may still be inside, so it is taken again only after [`Pool::reclaim`].

/// Indexes below a limit, free or in use.
pub(crate) struct Pool {
    max: u32,
    /// Indexes from here on were never taken.
    fresh: u32,
    free: Vec<u32>,
    /// Unlinked, but perhaps still read.
    retired: Vec<u32>,
}

impl Pool {
    /// All indexes below `max`, free.
    pub(crate) fn new(max: u32) -> Self {
        Pool { max, fresh: 0, free: Vec::new(), retired: Vec::new() }
    }

    /// Takes one that was used before, or else the lowest that never was.
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let fresh = self.fresh;
            (fresh < self.max).then(|| {
                self.fresh += 1;
                fresh
            })
        })
    }

    /// How many can be taken.
    pub(crate) fn left(&self) -> usize {
        self.free.len() + (self.max - self.fresh) as usize
    }

    /// Puts an unlinked one aside until [`Pool::reclaim`].
    pub(crate) fn retire(&mut self, index: u32) {
        self.retired.push(index);
    }

    /// Makes the retired free.
    pub(crate) fn reclaim(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// How many are linked or retired.
    pub(crate) fn used(&self) -> usize {
        self.fresh as usize - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_index_is_taken_again_only_after_reclaim() {
        let mut pool = Pool::new(1);
        let index = pool.take().unwrap();
        pool.retire(index);
        assert_eq!((pool.take(), pool.used(), pool.left()), (None, 1, 0));
        pool.reclaim();
        assert_eq!((pool.used(), pool.left()), (0, 1));
        assert_eq!(pool.take(), Some(index));
    }
}
