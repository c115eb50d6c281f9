//! STATUS: could a pod be attached now?

use super::Call;
use crate::error::Error;

impl Call {
    pub(super) fn status(&self) -> Result<(), Error> {
        self.client().status().map_err(|source| Error::NotReady { source })?;
        self.delegate()?.map_or(Ok(()), |delegate| delegate.tell("STATUS"))
    }
}
