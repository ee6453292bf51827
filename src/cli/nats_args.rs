//! stub
use clap::Args;
use ringest::ship::carrier::Carrier;
#[derive(Args, Debug)]
pub(super) struct NatsArgs {}
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NatsTarget(String);
impl std::str::FromStr for NatsTarget {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(Self(s.to_owned()))
    }
}
impl std::fmt::Display for NatsTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl NatsArgs {
    pub(super) fn carrier(&self, _: &NatsTarget) -> Result<Box<dyn Carrier>, String> {
        Err("no".into())
    }
}
