//! stub
use clap::Args;
use ringest::ship::carrier::Carrier;
#[derive(Args, Debug)]
pub(super) struct KafkaArgs {}
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KafkaTarget(String);
impl std::str::FromStr for KafkaTarget {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(Self(s.to_owned()))
    }
}
impl std::fmt::Display for KafkaTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl KafkaArgs {
    pub(super) fn carrier(&self, _: &KafkaTarget) -> Result<Box<dyn Carrier>, String> {
        Err("no".into())
    }
}
