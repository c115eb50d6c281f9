//! GC: what this network has and the runtime no longer knows goes.
//!
//! Only endpoints that a runtime asked for, of this network; another network's, and those made by hand, are left alone. One
//! that cannot be removed does not keep the others: the first error is told at the end.

use std::collections::HashSet;

use control::{Code, Detach, Name, Origin};

use super::Call;
use crate::attachment;
use crate::error::Error;

impl Call {
    pub(super) fn gc(&self) -> Result<(), Error> {
        let valid = self.valid()?;
        let client = self.client();
        let of_this_network = client
            .endpoints()?
            .into_iter()
            .filter(|known| known.origin == Origin::Cni && known.network.as_ref() == Some(&self.config.name));
        let mut first = Ok(());
        for garbage in of_this_network.filter(|known| !valid.contains(&known.name)) {
            let gone = match client.detach(Detach { name: garbage.name, origin: Origin::Cni, force: true }) {
                Err(control::Error::Refused(refusal)) if refusal.code == Code::NotFound => Ok(()),
                gone => gone.map(drop).map_err(Error::from),
            };
            first = first.and(gone);
        }
        first.and(self.delegate()?.map_or(Ok(()), |delegate| delegate.tell("GC")))
    }

    /// The names of what is in use.
    fn valid(&self) -> Result<HashSet<Name>, Error> {
        let field = || "cni.dev/valid-attachments".to_owned();
        let missing =
            || Error::Config { field: field(), fault: "is missing, and without it everything would go".to_owned() };
        let valid = self.config.valid.as_ref().ok_or_else(missing)?;
        let name = |(at, one): (usize, &crate::config::Attachment)| {
            let wrong = |fault: String| Error::Config { field: format!("{}[{at}]", field()), fault };
            let container = one.container.parse().map_err(|error: control::ParseError| wrong(error.to_string()))?;
            let interface = one.interface.parse().map_err(|error: control::ParseError| wrong(error.to_string()))?;
            Ok(attachment::name(&container, &interface))
        };
        valid.iter().enumerate().map(name).filter_map(Result::transpose).collect()
    }
}
