//! One look at a host: what will lose datagrams here, and the command that mends it.
//!
//! `examine` asks every room below in turn. Each reads through `files::Files` and hands the text
//! to a pure parser of `parse`, so that a tree of fixtures can stand in for a host; what no file
//! tells is tried (a ring, a bind) or asked (ethtool, nft). Nothing is changed.
//!
//! A **failure** surely breaks receiving. A **warning** loses datagrams under load, or shows that some
//! were lost. **Info** is a fact to know. What cannot be read is **unknown**, with the reason.

use crate::check::{Area, Check};
use crate::files::Files;
use crate::wanted::Wanted;

/// Looks at this host. Nothing is changed; a socket is bound and closed again to see whether it can be.
#[must_use]
pub fn examine(wanted: &Wanted) -> Vec<Check> {
    let files = Files::host();
    let wanted = &wanted.here(crate::address::has_ipv6(&files));
    let mut checks = Vec::new();
    let mut room = |area, found: Vec<Check>| {
        checks.extend(found.into_iter().map(|check| check.in_area(area)));
    };
    room(Area::Address, crate::address::checks(&files, wanted));
    room(Area::Firewall, crate::firewall::chains::checks(&files, wanted));
    room(Area::Firewall, crate::firewall::conntrack::checks(&files, wanted));
    room(Area::Kernel, crate::kernel::checks(&files));
    room(Area::Limits, crate::limits::checks(&files, wanted));
    room(Area::Buffers, crate::buffers::checks(&files, wanted));
    room(Area::Lost, crate::counters::checks(&files, wanted));
    let interfaces = crate::nic::interfaces::Interface::all(&files, wanted);
    room(Area::Interfaces, crate::nic::interfaces::checks(&files, &interfaces, wanted));
    room(Area::Cpu, crate::cpu::checks(&files, &interfaces, wanted));
    room(Area::Cpu, crate::memory::checks(&files));
    checks
}
