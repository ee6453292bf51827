//! Numbers that nobody outside this process can predict.

use std::hash::{BuildHasher, Hasher, RandomState};

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns 64 bits from the kernel's random source (getrandom(2)). Where a sandbox refuses the call, returns a hash
/// under the standard library's keys, which were random when the process started.
#[must_use]
pub fn unpredictable() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => RandomState::new().build_hasher().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_differ() {
        assert_ne!(unpredictable(), unpredictable());
    }
}
