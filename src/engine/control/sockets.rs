//! Opens all sockets of an engine and joins their groups. No socket accepts datagrams until every socket of its
//! listen address is open.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bpf::arrivals::Arrivals;
use crate::control::bind::{Bind, Membership, assign_groups};
use crate::control::config::{ArrivalsChoice, Config};
use crate::control::plan::Plan;
use crate::error::{Error, Result};
use crate::socket::error::{OpenCause, OptionError};
use crate::socket::listener::{Listener, SocketSpec};
use crate::socket::multicast::Group;
use crate::socket::read_back::ReadBack;
use crate::socket::steer;
use crate::socket::steer::Steer;
use ringest_base::host::holders;

/// Time that the sockets of a process that has ended may still hold their ports: seen for up to 0.3 s on two busy
/// cores (Linux 6.18). Too short and a restart fails; too long and the error about another holder comes late.
const FREE_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Sockets by receiver, with what must outlive their threads.
pub(crate) struct Sockets {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) by_receiver: Vec<Vec<Listener>>,
    pub(crate) arrivals: Vec<Vec<Arc<Arrivals>>>,
}

impl Sockets {
    /// The smallest buffer granted.
    pub(crate) fn rcvbuf_bytes(&self) -> usize {
        self.all().map(Listener::rcvbuf_bytes).min().unwrap_or(0)
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.by_receiver.iter().flatten()
    }

    /// The options that were asked for, as the kernel has them; the sockets' differ at most by
    /// family.
    pub(crate) fn options(&self) -> Vec<ReadBack> {
        let mut options = Vec::new();
        for option in self.all().flat_map(Listener::options) {
            if !options.contains(option) {
                options.push(option.clone());
            }
        }
        options
    }

    /// Returns a warning for each option that the kernel did not set as asked.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let odd = self.options().into_iter().filter(|option| !option.is_as_asked());
        odd.map(|option| format!("the kernel granted {option}")).collect()
    }
}

/// Opens every socket, with arrivals counted as asked. Returns also the method of counting, or why there is none.
pub(crate) fn open_sockets(config: &Config, plan: &Plan) -> Result<(Sockets, String)> {
    let open = |counts_arrivals| open_all(config, plan, counts_arrivals);
    if config.arrivals == ArrivalsChoice::Off {
        return Ok((open(false)?, "not counted: switched off".to_owned()));
    }
    match open(true) {
        Ok(sockets) => Ok((sockets, "counted by a socket filter (eBPF)".to_owned())),
        Err(Error::Arrivals { source }) if config.arrivals == ArrivalsChoice::Auto => {
            Ok((open(false)?, format!("not counted: {source}{}", source.hint())))
        }
        Err(error) => Err(error),
    }
}

fn open_all(config: &Config, plan: &Plan, counts_arrivals: bool) -> Result<Sockets> {
    let receivers = plan.receiver_cores.len();
    let mut sockets = Sockets {
        addresses: Vec::new(),
        by_receiver: std::iter::repeat_with(Vec::new).take(receivers).collect(),
        arrivals: std::iter::repeat_with(Vec::new).take(receivers).collect(),
    };
    for bind in &plan.listen {
        let address = open_group(&mut sockets, bind, (config, plan), counts_arrivals)?;
        sockets.addresses.push(address);
    }
    Ok(sockets)
}

/// The sockets of one listen address, one a receiver. Returns the address, with the port the kernel
/// chose.
fn open_group(
    sockets: &mut Sockets,
    bind: &Bind,
    (config, plan): (&Config, &Plan),
    counts_arrivals: bool,
) -> Result<SocketAddr> {
    let asked = plan.asked(config);
    let wild = bind.address.ip().is_unspecified();
    let cores = &plan.receiver_cores;
    let several = cores.len() > 1;
    let programmed = config.steer.needs_program() && several;
    let mut address = bind.address;
    for (receiver, &core) in cores.iter().enumerate() {
        let mut spec = SocketSpec::plain(address, asked, config.rcvbuf_bytes);
        spec.asked.pktinfo &= wild || asked.headers;
        spec.only_v6 = bind.only_v6;
        spec.first = receiver == 0;
        spec.options = config.socket.clone();
        spec.incoming_cpu = (config.steer == Steer::IncomingCpu).then_some(core);
        // Let in when all stand: the kernel's choice changes with every member, and a flow would be
        // split over two receivers.
        spec.shut = several;
        let arrivals = if counts_arrivals { Some(Arc::new(Arrivals::load()?)) } else { None };
        let listener = open_in_time(&spec, arrivals.as_ref())?;
        // With port 0 the first socket of the group chooses for the others.
        address = listener.address();
        join(&listener, bind, receiver)?;
        sockets.by_receiver[receiver].push(listener);
        sockets.arrivals[receiver].extend(arrivals);
    }
    if programmed {
        let Some(first) = sockets.by_receiver[0].last() else { return Ok(address) };
        steer::attach(config.steer, first.as_fd(), cores)
            .map_err(|(step, source)| Error::Steer { address, step, source })?;
    }
    if several {
        for listener in sockets.by_receiver.iter_mut().filter_map(|listeners| listeners.last_mut())
        {
            let accepted = listener.accept();
            accepted.map_err(|(step, source)| Error::Socket { address, step, source })?;
        }
    }
    Ok(address)
}

/// Opens a socket. If the port is taken but no process holds it, waits until it is free.
fn open_in_time(spec: &SocketSpec, arrivals: Option<&Arc<Arrivals>>) -> Result<Listener> {
    let mut give_up_at = None;
    loop {
        let taken = match Listener::open(spec, arrivals.cloned()) {
            Err(taken) if matches!(taken.cause, OpenCause::PortTaken) => taken.into(),
            opened => return Ok(opened?),
        };
        let give_up_at = match give_up_at {
            Some(at) => at,
            None if holders::is_held(spec.address) => return Err(taken),
            None => *give_up_at.insert(Instant::now() + FREE_WITHIN),
        };
        if Instant::now() >= give_up_at {
            return Err(taken);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Joins the groups that are this receiver's.
fn join(listener: &Listener, bind: &Bind, receiver: usize) -> Result<()> {
    let address = listener.address();
    let own = bind.groups.iter().filter(|membership| membership.receiver == receiver);
    own.into_iter().try_for_each(|membership| {
        let joined = membership.group.join(listener.as_fd());
        joined.map_err(|source| Error::Option { address, source })
    })
}

/// The multicast groups of a running engine. Joining is done on the receivers' own sockets, through
/// descriptors of ours.
#[derive(Debug)]
pub(crate) struct Groups {
    /// The listen addresses, with what is joined at each.
    binds: Mutex<Vec<Bind>>,
    sockets: Arc<GroupSockets>,
    receivers: usize,
}

/// By receiver and listen address; none where no group can come. They go with their receiver: as long
/// as one is open its port stays taken.
pub(crate) type GroupSockets = Vec<Mutex<Vec<Option<OwnedFd>>>>;

/// Closes the descriptors of a receiver that has ended.
pub(crate) fn close_group_sockets(sockets: &GroupSockets, receiver: usize) {
    if let Some(own) = sockets.get(receiver) {
        own.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Groups {
    pub(crate) fn new(plan: &Plan, sockets: &Sockets) -> Result<Self> {
        let receivers = plan.receiver_cores.len();
        let twin = |(listener, bind): (&Listener, &Bind)| {
            let ip = bind.address.ip();
            let can = ip.is_unspecified() || ip.is_multicast();
            let failed = |source| Error::Socket { address: bind.address, step: "dup(2)", source };
            can.then(|| listener.as_fd().try_clone_to_owned()).transpose().map_err(failed)
        };
        let of_receiver = |listeners: &Vec<Listener>| {
            let twins = listeners.iter().zip(&plan.listen).map(twin);
            twins.collect::<Result<Vec<_>>>().map(Mutex::new)
        };
        let sockets = sockets.by_receiver.iter().map(of_receiver).collect::<Result<_>>()?;
        Ok(Self { binds: Mutex::new(plan.listen.clone()), sockets: Arc::new(sockets), receivers })
    }

    /// The sockets, for the receivers to let go.
    pub(crate) fn sockets(&self) -> Arc<GroupSockets> {
        Arc::clone(&self.sockets)
    }

    /// Joins `group` on every listen address that can take it.
    pub(crate) fn join(&self, group: &Group) -> Result<()> {
        let mut binds = self.binds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = binds.clone();
        assign_groups(std::slice::from_ref(group), &mut wanted, self.receivers)?;
        for (index, bind) in wanted.iter().enumerate() {
            let Some(new) = bind.groups.last().filter(|_| bind.groups != binds[index].groups)
            else {
                continue;
            };
            if let Err(error) = self.ask(index, bind, new, Group::join) {
                // All addresses or none, so that it can be asked for again.
                for (earlier, bind) in binds.iter_mut().enumerate().take(index) {
                    let Some(place) = bind.groups.iter().position(|one| one.group == *group) else {
                        continue;
                    };
                    let _ = self.ask(earlier, bind, &bind.groups[place], Group::leave);
                    bind.groups.remove(place);
                }
                return Err(error);
            }
            binds[index] = bind.clone();
        }
        Ok(())
    }

    /// Leaves `group` wherever it was joined.
    pub(crate) fn leave(&self, group: &Group) -> Result<()> {
        let mut binds = self.binds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = false;
        for (index, bind) in binds.iter_mut().enumerate() {
            let Some(place) = bind.groups.iter().position(|member| member.group == *group) else {
                continue;
            };
            match self.ask(index, bind, &bind.groups[place], Group::leave) {
                // The interface is gone, and the membership with it.
                Err(Error::Option { source, .. })
                    if matches!(
                        source.source.raw_os_error(),
                        Some(libc::EADDRNOTAVAIL | libc::ENODEV)
                    ) => {}
                asked => asked?,
            }
            bind.groups.remove(place);
            left = true;
        }
        let reason = "it was not joined, or not as written here";
        if left { Ok(()) } else { Err(Error::setting("leave", group, reason)) }
    }

    fn ask(
        &self,
        index: usize,
        bind: &Bind,
        member: &Membership,
        call: impl Fn(&Group, std::os::fd::BorrowedFd<'_>) -> std::result::Result<(), OptionError>,
    ) -> Result<()> {
        let Some(own) = self.sockets.get(member.receiver) else { return Ok(()) };
        let own = own.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(socket)) = own.get(index) else { return Ok(()) };
        let address = bind.address;
        call(&member.group, socket.as_fd()).map_err(|source| Error::Option { address, source })
    }
}
