//! Classic BPF: the instructions that socket filters and the choice within a SO_REUSEPORT group use (linux/filter.h,
//! linux/bpf_common.h). Attaching one takes no privilege.

use socket2::SockFilter;

/// Loads the CPU number: an absolute load at SKF_AD_OFF + SKF_AD_CPU. Opcode and constant.
const LOAD_CPU: (u16, u32) = (0x20, 0xffff_f000 + 36);
const JEQ: u16 = 0x15;
const MOD: u16 = 0x94;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_A: u16 = 0x16;

/// A socket filter that keeps 0 bytes of every datagram, which drops it.
pub(crate) const REFUSE_ALL: [SockFilter; 1] = [SockFilter::new(RETURN_CONSTANT, 0, 0, 0)];

/// Returns a program that maps the CPU of a datagram to the index of a socket: `cores[i]` is the core of receiver i.
/// Datagrams of other CPUs are spread by the number of their CPU.
pub(crate) fn by_cpu(cores: &[usize]) -> Vec<SockFilter> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let mut program = vec![SockFilter::new(LOAD_CPU.0, 0, 0, LOAD_CPU.1)];
    for (index, &core) in cores.iter().enumerate() {
        program.push(SockFilter::new(JEQ, 0, 1, number(core)));
        program.push(SockFilter::new(RETURN_CONSTANT, 0, 0, number(index)));
    }
    program.push(SockFilter::new(MOD, 0, 0, number(cores.len())));
    program.push(SockFilter::new(RETURN_A, 0, 0, 0));
    program
}
