//! What a controller and a namespace say of themselves, for people and programs.

use super::cmb::Cmb;
use super::controller::Controller;
use super::namespace::Namespace;
use super::pmr;
use super::spec::registers::Version;
use crate::medium::{BLOCK, Fact, Value};

/// Zero degrees Celsius in kelvins, as the specification counts them.
const FREEZING: i64 = 273;

/// Identity, limits and health. What the controller does not answer is said so.
pub(super) fn describe(controller: &Controller, space: &Namespace) -> Vec<Fact> {
    let mut facts = identity(controller);
    facts.extend(namespace(space));
    facts.extend(limits(controller, space));
    facts.extend(controller.cmb.iter().flat_map(Cmb::facts));
    facts.extend(pmr::facts(&controller.link));
    facts.extend(health(controller));
    facts
}

pub(super) fn identity(controller: &Controller) -> Vec<Fact> {
    let id = controller.identity();
    let version = Version(id.ver());
    let version = format!("{}.{}.{}", version.major(), version.minor(), version.tertiary());
    let fact = |name, value: String| Fact::new("controller", name, value);
    vec![
        fact("model", id.model()),
        fact("serial", id.serial()),
        fact("firmware", id.firmware()),
        fact("version", version),
        fact("vendor", format!("{:04x}", id.vid())),
        fact("link", controller.link.function.name().to_owned()),
    ]
}

fn namespace(space: &Namespace) -> Vec<Fact> {
    let fact = |name, value| Fact::new("namespace", name, value);
    vec![
        fact("number", Value::Count(space.nsid.into())),
        fact("size", Value::Bytes(space.geometry.blocks * BLOCK as u64)),
        fact("lba", Value::Bytes(space.geometry.lba_bytes.into())),
        fact("write_protected", Value::Flag(space.write_protected)),
    ]
}

fn limits(controller: &Controller, space: &Namespace) -> Vec<Fact> {
    let (able, geometry) = (&space.abilities, &space.geometry);
    let fact = |name, value: Value| Fact::new("limits", name, value);
    let mut facts = vec![
        fact("command", Value::Bytes(able.max_command)),
        fact("queues", Value::Count(controller.queue_limit.into())),
        fact("depth", Value::Count(controller.max_depth().into())),
        fact("atomic", Value::Bytes(geometry.atomic_bytes.into())),
    ];
    if let Some(boundary) = geometry.atomic_boundary {
        facts.push(fact("atomic_boundary", Value::Bytes(boundary.every)));
    }
    facts.extend([
        fact("write_cache", able.volatile_cache.into()),
        fact("write_zeroes", able.write_zeroes.into()),
        fact("deallocate", able.deallocate.into()),
        fact("compare", able.compare.into()),
        fact("copy", geometry.copy.into()),
        fact("shadow_doorbells", controller.shadows.is_some().into()),
        fact("sgl", able.sgl.into()),
    ]);
    facts
}

pub(super) fn health(controller: &Controller) -> Vec<Fact> {
    let fact = |name, value: Value| Fact::new("health", name, value);
    let log = match controller.health() {
        Ok(log) => log,
        Err(error) => return vec![fact("unknown", error.message().into())],
    };
    let count = |n: u128| Value::Count(u64::try_from(n).unwrap_or(u64::MAX));
    vec![
        fact("critical_warning", format!("{:#04x}", log.critical_warning()).into()),
        fact("temperature", Value::Celsius(i64::from(log.temperature()) - FREEZING)),
        fact("spare", Value::Percent(log.spare().into())),
        fact("spare_threshold", Value::Percent(log.spare_threshold().into())),
        fact("used", Value::Percent(log.percentage_used().into())),
        fact("media_errors", count(log.media_errors())),
        fact("unsafe_shutdowns", count(log.unsafe_shutdowns())),
        fact("power_on_hours", count(log.power_on_hours())),
    ]
}
