//! What a process needed to start and needs no longer goes back to the system.
//!
//! Starting reads the whole law and runs code that never runs again. On the smallest VPS there is, that room is better used
//! by the gateway beside. Nothing is lost: the C library gives back what is free, and program text is read from its file
//! again when it runs again. Where the system refuses, everything stays as it was.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "mallopt, malloc_trim, munlock and madvise of the C library; std offers none of them"))]

/// More mappings than any of our binaries has, with its libraries.
const MAPPINGS_MAX: usize = 64;

/// Call it before any thread is started. The C library gives each thread a heap of its own, and what one of them leaves free the
/// others cannot use. Small pieces are kept by each thread all the same, so few of them meet at the one heap.
pub fn one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes any number, and no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Call it when the process is ready, and when it has come to rest.
pub fn give_back() {
    #[cfg(target_os = "linux")]
    if let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") {
        trim(locked_heap(&maps));
        for (start, length) in untouched(&maps).into_iter().take(MAPPINGS_MAX) {
            let start = std::ptr::without_provenance_mut::<libc::c_void>(start);
            // SAFETY: the pages are mapped from a file, privately, may not be written, and none was changed since they were
            // mapped: what is read from them next is the same bytes. They hold no secrets, so none need be locked.
            unsafe {
                libc::munlock(start, length);
                libc::madvise(start, length, libc::MADV_DONTNEED);
            }
        }
    }
}

/// Gives back what is free on the heap. The system takes no page back that is locked, so the lock is off for as long as that takes.
#[cfg(target_os = "linux")]
fn trim(locked: Option<(usize, usize)>) {
    let locked = locked.map(|(start, length)| (std::ptr::without_provenance_mut::<libc::c_void>(start), length));
    // SAFETY: locking and unlocking changes no byte, wherever the heap begins and ends by now; malloc_trim takes any number and
    // is safe to call from any thread.
    unsafe {
        if let Some((start, length)) = locked {
            libc::munlock(start, length);
        }
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
        if let Some((start, length)) = locked {
            libc::mlock2(start, length, libc::MLOCK_ONFAULT as libc::c_uint);
        }
    }
}

/// Start and length of the heap, if it is locked.
fn locked_heap(smaps: &str) -> Option<(usize, usize)> {
    let (header, below) = smaps.split_once(" [heap]\n")?;
    let flags = below.lines().find_map(|line| line.strip_prefix("VmFlags:"))?;
    flags.split_ascii_whitespace().any(|flag| flag == "lo").then(|| range(header.lines().next_back()?.split(' ').next()?))?
}

/// Start and length of the mappings of files that nobody may write and that differ in nothing from the file.
fn untouched(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(field) = first.strip_suffix(':') {
            // It stands after the header; a kernel that does not say it leaves everything as it is.
            if field == "Anonymous" && words.next() == Some("0") {
                found.extend(current.take());
            }
            continue;
        }
        let is_file = line.contains('/') && !line.ends_with("(deleted)");
        let is_fixed = words.next().is_some_and(|rights| rights.starts_with("r-") && rights.ends_with('p'));
        current = (is_file && is_fixed).then(|| range(first)).flatten();
    }
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_the_file_says_is_let_go() {
        let smaps = "\
            1000-3000 r--p 00000000 fe:01 1 /opt/agent\nRss: 8 kB\nAnonymous:             0 kB\nVmFlags: rd\n\
            3000-5000 r-xp 00002000 fe:01 1 /opt/agent\nAnonymous: 0 kB\n\
            5000-6000 r--p 00004000 fe:01 1 /opt/agent\nAnonymous: 4 kB\n\
            6000-7000 rw-p 00005000 fe:01 1 /opt/agent\nAnonymous: 0 kB\n\
            7000-8000 r-xp 00000000 fe:01 2 /lib/libc.so\nAnonymous: 0 kB\n\
            8000-9000 r-xp 00000000 fe:01 1 /opt/agent (deleted)\nAnonymous: 0 kB\n\
            b000-c000 r--s 00000000 fe:01 3 /var/agent.db-shm\nAnonymous: 0 kB\n\
            9000-a000 r--p 00000000 00:00 0 \nAnonymous: 0 kB\n";
        assert_eq!(untouched(smaps), [(0x1000, 0x2000), (0x3000, 0x2000), (0x7000, 0x1000)]);
    }

    #[test]
    fn a_heap_is_found_where_it_is_locked() {
        let smaps = |flags: &str| {
            format!("1000-3000 r--p 0 fe:01 1 /opt/agent\nVmFlags: rd lo\n5000-9000 rw-p 00000000 00:00 0    [heap]\nRss: 8 kB\nVmFlags: {flags}\n")
        };
        assert_eq!(locked_heap(&smaps("rd wr mr lo ac")), Some((0x5000, 0x4000)));
        assert_eq!(locked_heap(&smaps("rd wr mr ac")), None);
        assert_eq!(locked_heap("1000-3000 rw-p 0 00:00 0\nVmFlags: rd lo\n"), None);
    }

    #[test]
    fn a_process_lives_on() {
        give_back();
        assert_eq!("still".len() + vec![0_u8; 1 << 20].len(), 5 + (1 << 20));
    }
}
