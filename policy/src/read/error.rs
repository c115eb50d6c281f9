//! Why a text is refused.

use super::TEXT_MAX;

/// A text was refused, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum ReadError {
    #[error("{bytes} bytes are more than the {max} that are read at once: give several files", max = TEXT_MAX)]
    TooLong { bytes: usize },
    #[error("neither YAML nor JSON: {problem}")]
    Syntax { problem: String },
    #[error("document {document}: {problem}")]
    Shape { document: usize, problem: &'static str },
    #[error(
        "document {document}: {kind} of {api_version} is not read here: NetworkPolicy (networking.k8s.io/v1), \
         ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), NetworkPolicy, GlobalNetworkPolicy, NetworkSet, GlobalNetworkSet, \
         Tier, Profile (projectcalico.org/v3 or crd.projectcalico.org/v1), Namespace, Pod (v1), and lists of these are"
    )]
    Unknown { document: usize, kind: String, api_version: String },
    #[error("document {document}, {object}: {path}: {problem}")]
    Field { document: usize, object: String, path: String, problem: String },
}
