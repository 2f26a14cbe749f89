//! What a process costs: processor time and memory, read from the kernel.

use std::io;
use std::time::{Duration, Instant};

use e2e_tests::clock;

/// Between two looks at a process that is to come to rest.
const LOOK: Duration = Duration::from_millis(20);

/// Less than that between two looks is rest: what timers and probes take.
const REST: Duration = Duration::from_micros(200);

/// A process that is not at rest by then is measured as it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The processes of a peer, and what they had used when a measurement began.
#[derive(Debug)]
pub struct Meter {
    pids: Vec<u32>,
    cpu_before: Duration,
    resident_before: u64,
    began: Instant,
}

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all processes, with what they did after the last Ack.
    pub cpu: Duration,
    /// From the first packet to the last Ack.
    pub wall: Duration,
    /// The most that was resident at any moment.
    pub peak_bytes: u64,
}

impl Meter {
    /// Waits until the processes rest, then begins.
    pub fn begin(pids: &[u32]) -> io::Result<Self> {
        let cpu_before = at_rest(pids)?;
        for pid in pids {
            // 5 sets the peak to what is resident now.
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        let resident_before = sum(pids, resident)?;
        Ok(Self { pids: pids.to_vec(), cpu_before, resident_before, began: clock::now() })
    }

    pub fn end(self) -> io::Result<Usage> {
        let wall = self.began.elapsed();
        let cpu = at_rest(&self.pids)?.saturating_sub(self.cpu_before);
        let peak_bytes = sum(&self.pids, peak)?.max(self.resident_before);
        Ok(Usage { cpu, wall, peak_bytes })
    }
}

/// The processor time of all processes, once they have come to rest.
fn at_rest(pids: &[u32]) -> io::Result<Duration> {
    let began = clock::now();
    let mut before = cpu_of(pids)?;
    while began.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        let now = cpu_of(pids)?;
        if now.saturating_sub(before) < REST {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

fn cpu_of(pids: &[u32]) -> io::Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

fn sum(pids: &[u32], read: impl Fn(u32) -> io::Result<u64>) -> io::Result<u64> {
    pids.iter().map(|pid| read(*pid)).sum()
}

/// What is resident in all processes.
pub fn resident_of(pids: &[u32]) -> io::Result<u64> {
    sum(pids, resident)
}

/// User and system time of a process with all its threads, those that have ended included.
///
/// The kernel counts it in nanoseconds; `/proc/PID/stat` shows the same in hundredths of a second.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: the pointer is to a local variable of the right type.
    let status = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Bytes of memory that a process has now.
pub fn resident(pid: u32) -> io::Result<u64> {
    // The kernel counts pages for this file; `status` shows what processors have not added up yet.
    field(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

fn peak(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn field(path: &str, name: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in {path}")))
}

/// A process with all that descend from it.
pub fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    /// User and system time of an ended child by the kernel's other account of it.
    fn waited_for(pid: u32) -> Duration {
        let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
        let pid = pid as libc::pid_t;
        // SAFETY: both pointers are to local variables of the right types.
        let usage = unsafe {
            assert_eq!(libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()), pid);
            usage.assume_init()
        };
        let time =
            |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
        time(usage.ru_utime) + time(usage.ru_stime)
    }

    #[test]
    #[allow(clippy::zombie_processes)] // `waited_for` waits
    fn processor_time_is_what_the_kernel_says_when_the_process_has_ended() {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read line";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let seen = cpu_time(child.id()).expect("it runs");
        drop(child.stdin.take());
        let told = waited_for(child.id());
        assert!(seen <= told + Duration::from_millis(1), "{seen:?} seen, {told:?} told");
        assert!(seen > told * 9 / 10, "{seen:?} seen, {told:?} told");
    }

    #[test]
    fn only_the_named_process_is_measured() {
        let mut idle = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let meter = Meter::begin(&[idle.id()]).expect("it runs");
        let mut sum = 0u64;
        let own = cpu_time(std::process::id()).expect("this runs");
        while cpu_time(std::process::id()).expect("this runs") < own + Duration::from_millis(50) {
            sum = std::hint::black_box(sum + 1);
        }
        let usage = meter.end().expect("it runs");
        idle.kill().and_then(|()| idle.wait()).expect("ended");
        assert!(usage.cpu < Duration::from_millis(5), "{usage:?}");
    }

    #[test]
    fn a_peak_that_is_over_is_seen() {
        let own = [std::process::id()];
        let meter = Meter::begin(&own).expect("this runs");
        let before = meter.resident_before;
        let mut held = vec![0u8; 64 << 20];
        held.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        drop(std::hint::black_box(held));
        let usage = meter.end().expect("this runs");
        assert!(usage.peak_bytes >= before + (60 << 20), "{usage:?} after {before}");
    }

    #[test]
    fn children_belong_to_the_tree() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let sleep: u32 = line.trim().parse().expect("a pid");
        let found = tree(shell.id());
        for pid in [sleep, shell.id()] {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid as i32).expect("a pid"),
                rustix::process::Signal::KILL,
            );
        }
        shell.wait().expect("ended");
        assert_eq!(found.expect("it ran"), [shell.id(), sleep]);
    }
}
