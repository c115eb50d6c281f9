//! A punted frame as the ordinary frames it stands for: cut, every transport checksum finished.

use std::borrow::Cow;

use packet::view::Layout;
use packet::{ChecksumForm, Cut, FrameRef, Gso, complete_checksum};

use super::{Outcome, Punted};

/// What is left of a frame; an ordinary one is its own only segment.
pub(super) enum Segments<'a> {
    One(Option<Cow<'a, [u8]>>),
    Many(Cut<'a>),
}

impl<'a> Segments<'a> {
    /// All of `punted`, which is refused if it contradicts what came beside it.
    pub(super) fn of(punted: &Punted<'a>) -> Result<Self, Outcome> {
        let (frame, mut offload) = (punted.frame, punted.offload);
        if offload.gso != Gso::None {
            let cut = Cut::new(FrameRef { head: frame, tail: &[] }, &offload, ChecksumForm::Complete);
            return cut.map(Segments::Many).map_err(|_| Outcome::Malformed);
        }
        if !offload.needs_csum {
            return Ok(Segments::One(Some(Cow::Borrowed(frame))));
        }
        let end = Layout::parse(frame).ok_or(Outcome::Malformed)?.end;
        let mut packet = frame.get(..end).ok_or(Outcome::Malformed)?.to_vec();
        complete_checksum(&mut packet, &[], &mut offload).map_err(|_| Outcome::Malformed)?;
        Ok(Segments::One(Some(Cow::Owned(packet))))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Segments::One(frame) => frame.take(),
            Segments::Many(cut) => {
                let mut segment = vec![0; cut.header_len()];
                let payload = cut.next(&mut segment)?;
                cut.payload(&payload).iter().for_each(|part| segment.extend_from_slice(part));
                Some(Cow::Owned(segment))
            }
        }
    }
}
