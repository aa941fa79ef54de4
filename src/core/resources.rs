//! What a service and everything that it starts may use together.

/// Limits on a generation's cgroup; `None`: as much as there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory; beyond, the kernel kills in it.
    pub memory_max: Option<u64>,
    /// Bytes of memory beyond which its processes are slowed down and made to give back.
    pub memory_high: Option<u64>,
    /// Bytes of swap.
    pub memory_swap_max: Option<u64>,
    /// Whether a kill for memory is everybody's in it.
    pub oom_group: bool,
    /// Processor time, in millionths of a processor.
    pub cpu_max: Option<u64>,
    /// Its share when processors are short, 1 to 10,000.
    pub cpu_weight: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
    /// Its share when a disk is short, 1 to 10,000.
    pub io_weight: Option<u64>,
    /// Disk by disk.
    pub io_max: Vec<IoMax>,
    /// The processors it may run on, as in `0-3,8`.
    pub cpuset: Option<String>,
    /// It owns the cgroup that it runs in, and may make cgroups below.
    pub delegate: bool,
    /// It is started without those of the limits that cannot be enforced.
    pub optional: bool,
}

/// How fast a block device may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoMax {
    /// The device: its path, or its number as `MAJOR:MINOR`.
    pub device: String,
    /// Bytes read in a second.
    pub read_bytes: Option<u64>,
    /// Bytes written in a second.
    pub write_bytes: Option<u64>,
    /// Reads in a second.
    pub reads: Option<u64>,
    /// Writes in a second.
    pub writes: Option<u64>,
}
