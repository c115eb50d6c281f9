//! What the switch calls an attachment: the container and the interface in one name.
//!
//! `CONTAINER.INTERFACE`, so that people find a container by its id. A container's id may have dots, an interface's name
//! too, and characters that a name may not have. So only a simple interface name, without a dot, stands there as it is; any
//! other as 32 hexadecimal digits of its 16 bytes (`IFNAMSIZ`), which no simple one is, being shorter. No two pairs have
//! one name.

use control::{InterfaceName, Name};

/// The switch's name for it; none for a container whose id is too long to be attached.
pub(crate) fn name(container: &Name, interface: &InterfaceName) -> Option<Name> {
    let text = interface.as_str();
    let simple = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let ending = if simple {
        text.to_owned()
    } else {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes.map(|byte| format!("{byte:02x}")).concat()
    };
    format!("{container}.{ending}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::CONTAINER_LEN_MAX;

    #[test]
    fn no_two_attachments_have_one_name() {
        let longest = "c".repeat(CONTAINER_LEN_MAX);
        let containers = ["a", "a.b", "a.b.c", &longest].map(|text| text.parse::<Name>().unwrap());
        let interfaces = ["b", "c", "b.c", "eth0", "e+0", "eth0.100", "ä", "612e6200000000"];
        let mut names = Vec::new();
        for container in &containers {
            names.extend(interfaces.map(|text| name(container, &text.parse().unwrap()).unwrap()));
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(name(&containers[0], &"eth0".parse().unwrap()).unwrap().as_str(), "a.eth0");
    }
}
