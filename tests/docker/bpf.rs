/// Runs a filter on one system call, as the kernel does: classic BPF over `struct seccomp_data` (seccomp(2)).
pub fn run(program: &[u8], interface: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(interface.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    data.extend(arguments.iter().flat_map(|value| value.to_ne_bytes()));
    let (mut at, mut register) = (0, 0);
    loop {
        let one = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([one[0], one[1]]);
        let value = u32::from_ne_bytes([one[4], one[5], one[6], one[7]]);
        at += 1;
        let holds = match code {
            // Load, AND, jump, return; then the conditional jumps (include/uapi/linux/bpf_common.h).
            0x20 => {
                let place = value as usize;
                register = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                register &= value;
                continue;
            }
            0x05 => {
                at += value as usize;
                continue;
            }
            0x06 => return value,
            0x15 => register == value,
            0x25 => register > value,
            0x35 => register >= value,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { one[2] } else { one[3] });
    }
}
