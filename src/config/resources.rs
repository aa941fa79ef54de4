//! `resources`: what a service may use.

use super::amount;
use super::keys::{self, Fields, Twice, unique};
use super::read::Reader;
use super::yaml::{Kind, Node};
use crate::core::{IoMax, Resources};

/// What an amount of bytes looks like.
const BYTES: &str = "write whole bytes or a number with K, M, G or T, each 1024 of the one before: \
                     `512M`, `1.5G`";

/// What an amount of processor time looks like.
const PROCESSORS: &str =
    "write a percentage of one processor (`150%`) or a number of processors (`1.5`)";

impl Reader<'_> {
    pub(super) fn resources(&mut self, node: &Node) -> Option<Box<Resources>> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`resources` must be a mapping, this is {}", node.describe());
            let hint = Some("write `resources: {memory_max: 512M, cpu_max: 150%}`".into());
            self.error(node.mark, message, hint);
            return None;
        };
        let fields = Fields::new(self, pairs, keys::RESOURCES, Some("resources"));
        let mut resources = Resources::default();
        for (key, into) in [
            ("memory_max", &mut resources.memory_max),
            ("memory_high", &mut resources.memory_high),
            ("memory_swap_max", &mut resources.memory_swap_max),
        ] {
            if let Some(node) = fields.get(key) {
                // No swap at all is a limit, no memory at all is none that anything runs under.
                let zero = key == "memory_swap_max";
                *into = self.bytes(&format!("resources.{key}"), node, zero);
            }
        }
        for (key, into, most) in [
            ("cpu_weight", &mut resources.cpu_weight, 10_000),
            ("io_weight", &mut resources.io_weight, 10_000),
            ("pids_max", &mut resources.pids_max, 4_194_304),
        ] {
            if let Some(node) = fields.get(key) {
                *into = self.up_to(&format!("resources.{key}"), node, most);
            }
        }
        for (key, into) in [
            ("oom_group", &mut resources.oom_group),
            ("delegate", &mut resources.delegate),
            ("optional", &mut resources.optional),
        ] {
            if let Some(node) = fields.get(key) {
                *into = self
                    .bool(&format!("resources.{key}"), node)
                    .unwrap_or_default();
            }
        }
        if let Some(node) = fields.get("cpu_max") {
            let what = "resources.cpu_max";
            resources.cpu_max = self.amount_of(what, node, amount::parse_processors, PROCESSORS);
        }
        if let Some(node) = fields.get("cpuset") {
            resources.cpuset = self.cpuset(node);
        }
        if let Some(node) = fields.get("io_max") {
            resources.io_max = self.io_max(node);
        }
        Some(Box::new(resources))
    }

    fn amount_of(
        &mut self,
        what: &str,
        node: &Node,
        parse: impl FnOnce(&str) -> Option<u64>,
        hint: &str,
    ) -> Option<u64> {
        let text = self.text(what, node)?;
        let parsed = parse(text);
        if parsed.is_none() {
            let message = format!("`{what}` must be an amount, this is {}", node.describe());
            self.error(node.mark, message, Some(hint.into()));
        }
        parsed
    }

    fn bytes(&mut self, what: &str, node: &Node, zero: bool) -> Option<u64> {
        let parse = |text: &str| match text {
            "0" if zero => Some(0),
            text => amount::parse_bytes(text),
        };
        self.amount_of(what, node, parse, BYTES)
    }

    fn up_to(&mut self, what: &str, node: &Node, most: u64) -> Option<u64> {
        let parse = |text: &str| {
            let number = text.parse().ok()?;
            (1..=most).contains(&number).then_some(number)
        };
        let hint = format!("write a whole number from 1 to {most}");
        self.amount_of(what, node, parse, &hint)
    }

    /// Numbers and ranges of processors, as the kernel reads them (cgroup-v2.rst, 'cpuset.cpus').
    fn cpuset(&mut self, node: &Node) -> Option<String> {
        let text = self.text("resources.cpuset", node)?;
        let number = |text: &str| text.parse::<u32>().ok();
        let good = text.split(',').all(|part| match part.split_once('-') {
            Some((from, to)) => number(from)
                .zip(number(to))
                .is_some_and(|(from, to)| from <= to),
            None => number(part).is_some(),
        });
        if good {
            return Some(text.to_owned());
        }
        let message = "`resources.cpuset` must be numbers of processors".to_owned();
        let hint = Some("write `0-3,8`".into());
        self.error(node.mark, message, hint);
        None
    }

    fn io_max(&mut self, node: &Node) -> Vec<IoMax> {
        let hint = || Some("write `io_max: {/dev/sda: {rbps: 10M, wiops: 100}}`".to_owned());
        let Kind::Map(devices) = &node.kind else {
            let described = node.describe();
            let message = format!("`resources.io_max` must be a mapping, this is {described}");
            self.error(node.mark, message, hint());
            return Vec::new();
        };
        let mut found = Vec::new();
        for ((device, mark), limits) in unique(self, devices, Twice::Refused) {
            let what = format!("resources.io_max.{device}");
            if !device.starts_with("/dev/") && !is_device_number(device) {
                let message = format!("`{}` is no device", device.escape_debug());
                self.error(mark, message, hint());
                continue;
            }
            let Kind::Map(pairs) = &limits.kind else {
                let message = format!("`{what}` must be a mapping, this is {}", limits.describe());
                self.error(limits.mark, message, hint());
                continue;
            };
            let fields = Fields::new(self, pairs, keys::IO_MAX, Some(&what));
            let mut disk = IoMax {
                device: device.to_owned(),
                ..IoMax::default()
            };
            for (key, into) in [
                ("rbps", &mut disk.read_bytes),
                ("wbps", &mut disk.write_bytes),
                ("riops", &mut disk.reads),
                ("wiops", &mut disk.writes),
            ] {
                if let Some(node) = fields.get(key) {
                    *into = self.bytes(&format!("{what}.{key}"), node, false);
                }
            }
            found.push(disk);
        }
        found
    }
}

/// `MAJOR:MINOR`.
fn is_device_number(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    text.split_once(':')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}
