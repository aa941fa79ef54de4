//! A service's `resources`: set on its generation's cgroup before its birth.

use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, stat};

use super::place::Place;
use crate::core::{self, Resources};
use crate::sys::limits::{self, Controller, CpuMax, IoMax, Limits, Unmet};
use crate::sys::spawn::RunAs;
use crate::sys::{SysError, cgroup};

/// A ration of processor time is for so many microseconds.
const PERIOD_US: u64 = 100_000;

/// Holds all services, below our directory. No service is called that: their names have no dot.
const TOGETHER: &str = "all.services";

/// What all services may use together is set on this cgroup. We are not in it: what they use up
/// must not keep us from ending them.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) dir: PathBuf,
    /// Who of them is killed for memory is counted, whatever their own limits are.
    memory: bool,
}

impl Place {
    /// Sets what all services may use together, before the first of them starts. Where a limit
    /// cannot be enforced we do not begin, unless they are optional: then that is logged.
    ///
    /// **Blocks** for some writes.
    pub(super) fn limit_together(&mut self, resources: &Resources) -> Result<(), SysError> {
        let limits = translate(resources)?;
        if limits.is_empty() {
            return Ok(());
        }
        let unmet = match (self.base(), self.tree()) {
            (Some(base), Some(tree)) => {
                let dir = tree.join(TOGETHER);
                cgroup::make_dir(&dir)?;
                let wanted = limits.controllers();
                let refused = limits::enable(base, &[tree.to_path_buf()], &wanted);
                let memory = wanted.contains(&Controller::Memory)
                    && !refused.contains_key(&Controller::Memory);
                let unmet = limits::apply(&dir, &limits, &refused);
                self.together = Some(Together { dir, memory });
                unmet
            }
            _ => limits::nowhere(&limits, &self.why_no_cgroups()),
        };
        let said = unmet
            .iter()
            .map(|one| format!("{} cannot be enforced: {}", option_for(one.limit), one.why));
        let said: Vec<String> = said.collect();
        if !said.is_empty() && !resources.optional {
            let why = format!("{} (`--limits=optional` starts without)", said.join("; "));
            return Err(SysError::because("limit", "all services together", why));
        }
        for line in said {
            tracing::warn!("all services together: {line}; they run without");
        }
        Ok(())
    }

    /// Whether kills for memory are counted for every service.
    pub(super) fn counts_memory(&self) -> bool {
        self.together
            .as_ref()
            .is_some_and(|together| together.memory)
    }

    /// Sets the limits on a generation's cgroup, which holds nobody yet. Where one cannot be
    /// enforced the start fails, unless they are optional: then that is logged.
    ///
    /// **Blocks** for some writes.
    pub(super) fn limit(
        &self,
        service: &str,
        dir: Option<&Path>,
        resources: &Resources,
        owner: &RunAs,
    ) -> Result<(), SysError> {
        let limits = translate(resources)?;
        let unmet = match dir {
            Some(dir) => self.set_limits(dir, resources, &limits),
            None => limits::nowhere(&limits, &self.why_no_cgroups()),
        };
        let said: Vec<String> = unmet.iter().map(Unmet::to_string).collect();
        if !said.is_empty() && !resources.optional {
            let why = format!(
                "{} (`optional: true` in `resources` starts it without)",
                said.join("; ")
            );
            return Err(SysError::because("limit", service, why));
        }
        for line in said {
            tracing::warn!("{service}: {line}; it runs without");
        }
        match dir {
            Some(dir) if resources.delegate => delegate(&dir.join("main"), owner),
            _ => Ok(()),
        }
    }

    fn set_limits(&self, dir: &Path, resources: &Resources, limits: &Limits) -> Vec<Unmet> {
        let (Some(base), Some(tree), Some(service)) = (self.base(), self.tree(), dir.parent())
        else {
            return limits::nowhere(limits, &self.why_no_cgroups());
        };
        let mut ours = vec![tree.to_path_buf()];
        ours.extend(self.together.as_ref().map(|together| together.dir.clone()));
        ours.push(service.to_path_buf());
        let mut wanted = limits.controllers();
        if self.counts_memory() && !wanted.contains(&Controller::Memory) {
            wanted.push(Controller::Memory);
        }
        if resources.delegate {
            // Whatever there is: what cannot be had is not missed.
            ours.push(dir.to_path_buf());
            wanted = Controller::ALL.to_vec();
        }
        let refused = {
            let _one = self.enabling();
            limits::enable(base, &ours, &wanted)
        };
        limits::apply(dir, limits, &refused)
    }

    fn why_no_cgroups(&self) -> String {
        format!(
            "there is no cgroup to set it on ({})",
            self.notes.join("; ")
        )
    }
}

/// A limit, named in service files, as options of the command line name it.
pub(crate) fn option_for(limit: &'static str) -> &'static str {
    match limit {
        "memory_max" => "--memory",
        "cpu_max" => "--cpus",
        "pids_max" => "--pids",
        other => other,
    }
}

/// Hands the service's own cgroup over to whom it runs as (cgroup-v2.rst, 'Delegation
/// Containment'): its limits stay ours.
fn delegate(main: &Path, owner: &RunAs) -> Result<(), SysError> {
    if owner.uid.is_none() && owner.gid.is_none() {
        // As us: it may do there whatever we may.
        return Ok(());
    }
    cgroup::hand_over(main, owner.uid, owner.gid)
}

fn translate(resources: &Resources) -> Result<Limits, SysError> {
    let io_max = resources.io_max.iter().map(disk);
    Ok(Limits {
        memory_max: resources.memory_max,
        memory_high: resources.memory_high,
        memory_swap_max: resources.memory_swap_max,
        oom_group: resources.oom_group,
        cpu_max: resources.cpu_max.map(|millionths| CpuMax {
            quota_us: millionths.saturating_mul(PERIOD_US) / 1_000_000,
            period_us: PERIOD_US,
        }),
        cpu_weight: resources.cpu_weight,
        pids_max: resources.pids_max,
        io_weight: resources.io_weight,
        io_max: io_max.collect::<Result<_, _>>()?,
        cpuset: resources.cpuset.clone(),
    })
}

fn disk(max: &core::IoMax) -> Result<IoMax, SysError> {
    Ok(IoMax {
        device: device(&max.device)?,
        read_bytes: max.read_bytes,
        write_bytes: max.write_bytes,
        reads: max.reads,
        writes: max.writes,
    })
}

/// A block device's number: as it is written, or its file's.
fn device(name: &str) -> Result<(u64, u64), SysError> {
    let number = |text: &str| text.parse().ok();
    let written = name.split_once(':');
    if let Some(device) = written.and_then(|(major, minor)| number(major).zip(number(minor))) {
        return Ok(device);
    }
    let path = Path::new(name);
    let seen = stat(path).map_err(|e| SysError::at("find the device", path, e))?;
    if SFlag::from_bits_truncate(seen.st_mode) & SFlag::S_IFMT != SFlag::S_IFBLK {
        return Err(SysError::because("limit", name, "it is no block device"));
    }
    let (major, minor) = (
        nix::sys::stat::major(seen.st_rdev),
        nix::sys::stat::minor(seen.st_rdev),
    );
    Ok((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_number_or_by_a_block_device() {
        assert_eq!(device("8:16").unwrap(), (8, 16));
        let error = device("/dev/null").unwrap_err();
        assert_eq!(error.to_string(), "limit /dev/null: it is no block device");
        let error = device("/dev/no-such").unwrap_err().to_string();
        assert!(error.contains("find the device /dev/no-such"), "{error}");
    }
}
