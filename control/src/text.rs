//! Two macros for types that are written as text: serde by way of `Display` and `FromStr`, and enums of fixed words.

/// Serialises each type as its `Display` text and deserialises it by `FromStr`.
macro_rules! serde_as_text {
    ($($kind:ty),+ $(,)?) => {$(
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

/// An enum whose values are fixed words, in JSON as on the command line.
macro_rules! words {
    ($(#[$outer:meta])* $kind:ident, $what:literal { $($(#[$inner:meta])* $name:ident => $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $kind { $($(#[$inner])* $name),+ }

        impl $kind {
            /// Every value, in order of declaration.
            pub const ALL: &'static [$kind] = &[$($kind::$name),+];

            /// The word in JSON, in tables and on the command line.
            pub const fn word(self) -> &'static str {
                match self { $($kind::$name => $word),+ }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = $crate::ParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok($kind::$name),)+
                    _ => Err($crate::ParseError::Word {
                        what: $what,
                        text: text.to_owned(),
                        allowed: &[$($word),+],
                    }),
                }
            }
        }

        $crate::text::serde_as_text!($kind);
    };
}

pub(crate) use serde_as_text;
pub(crate) use words;
