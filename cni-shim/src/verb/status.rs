//! STATUS: could a pod be attached now?

use super::Call;
use crate::error::Error;

impl Call {
    pub(super) fn status(&self) -> Result<(), Error> {
        let status = self.client().status().map_err(|source| Error::NotReady { source })?;
        if let Some(pause) = status.pauses.into_iter().next() {
            return Err(Error::Paused(pause));
        }
        self.delegate()?.map_or(Ok(()), |delegate| delegate.tell("STATUS"))
    }
}
