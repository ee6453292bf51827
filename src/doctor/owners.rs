//! The process that holds a socket: its inode in /proc/net/udp is looked up in the descriptors of every process that
//! this user may examine.

use crate::files::Files;
use crate::parse;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// systemd unit that the process belongs to.
    pub(crate) unit: Option<String>,
}

/// Returns the process that holds the socket of this inode; `None`: none that this user may examine.
pub(crate) fn owner(files: &Files, inode: u64) -> Option<Owner> {
    let wanted = format!("socket:[{inode}]");
    files.names("/proc").iter().filter_map(|name| name.parse().ok()).find_map(|pid: u32| {
        let fds = format!("/proc/{pid}/fd");
        let holds = |fd: &String| files.link(&format!("{fds}/{fd}")).as_ref() == Some(&wanted);
        files.names(&fds).iter().any(holds).then(|| {
            let name = files.read(&format!("/proc/{pid}/comm")).unwrap_or_default();
            let cgroup = files.read(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let unit = parse::unit(&cgroup).map(ToOwned::to_owned);
            Owner { pid, name: name.trim().to_owned(), unit }
        })
    })
}

/// Returns the id of a process of this name; `None`: none runs.
pub(crate) fn runs(files: &Files, name: &str) -> Option<u32> {
    files.names("/proc").iter().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        files.read(&format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}
