//! Stands in for the only part of serde_with that the models use, because Debian 12 does not have
//! the crate. The outer option says whether the member is there, and the inner one whether it is null.
pub mod rust {
    pub mod double_option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
        where
            T: Deserialize<'de>,
            D: Deserializer<'de>,
        {
            Option::deserialize(deserializer).map(Some)
        }

        pub fn serialize<T, S>(value: &Option<Option<T>>, serializer: S) -> Result<S::Ok, S::Error>
        where
            T: Serialize,
            S: Serializer,
        {
            value.as_ref().and_then(Option::as_ref).serialize(serializer)
        }
    }
}
