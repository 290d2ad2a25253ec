//! Identify (Base 1.4, 5.15): what the controller says that it is. Nothing is said
//! that is not so; what a profile's device says in excess of ours is left out.

use super::super::guest::Guest;
use super::super::options::{COPY_BLOCKS, Profile};
use super::super::random::mix;
use super::admin::ACL;
use super::events::AERL;
use super::logs::ERROR_ENTRIES;
use super::{Controller, Namespace};
use crate::nvme::spec::ALL_NAMESPACES;
use crate::nvme::spec::command::{Command, Cqe};
use crate::nvme::spec::identify::{
    BYTES, DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES, Descriptor, IdentifyController,
    IdentifyNamespace, LPA_EXTENDED, LbaFormat, NSFEAT_ATOMICS, OACS_DOORBELL_BUFFER, cns,
    encode_descriptors, encode_namespace_list,
};
use crate::nvme::spec::status::Status;

/// LPA: the Commands Supported and Effects log is there.
const LPA_EFFECTS: u8 = 1 << 1;
/// NSFEAT: thin provisioning.
const NSFEAT_THIN: u8 = 1;
/// Identify values of Base 2.0 for command sets, where CAP.CSS offers them.
const CNS_SET_NAMESPACE: u8 = 0x05;
const CNS_SET_CONTROLLER: u8 = 0x06;
const CNS_SET_ACTIVE: u8 = 0x07;
const CNS_SETS: u8 = 0x1c;

impl Controller {
    pub(super) fn identify(
        &mut self,
        command: &Command,
        guest: &impl Guest,
    ) -> Result<u32, Status> {
        let nsid = command.nsid();
        // Of Base 2.0: which command set is meant; there is one.
        let sets = self.traits.cap.css() & 1 << 6 != 0;
        let set = command.cdw(11) >> 24;
        let bytes = match command.cdw(10) as u8 {
            cns::NAMESPACE => {
                let namespace = self.known(nsid)?;
                *self.identify_namespace(namespace).as_bytes()
            }
            cns::CONTROLLER => *self.identify_controller().as_bytes(),
            cns::ACTIVE_NAMESPACES => self.active_list(nsid)?,
            cns::NAMESPACE_DESCRIPTORS => {
                self.known(nsid)?;
                self.descriptors(nsid, sets)
            }
            CNS_SET_NAMESPACE if sets && set == 0 => {
                self.known(nsid)?;
                [0; BYTES]
            }
            CNS_SET_CONTROLLER if sets && set == 0 => [0; BYTES],
            CNS_SET_ACTIVE if sets && set == 0 => self.active_list(nsid)?,
            CNS_SETS if sets => {
                let mut bytes = [0; BYTES];
                bytes[0] = 1;
                bytes
            }
            _ => return Err(Status::INVALID_FIELD.final_()),
        };
        self.send(command, &bytes, guest)
    }

    /// The namespace of a number. All that there may be are there.
    pub(super) fn known(&self, nsid: u32) -> Result<Namespace, Status> {
        let index = nsid.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.namespaces.get(index)) {
            Some(namespace) => Ok(*namespace),
            None => Err(Status::INVALID_NAMESPACE.final_()),
        }
    }

    fn active_list(&self, above: u32) -> Result<[u8; BYTES], Status> {
        if above >= ALL_NAMESPACES - 1 {
            return Err(Status::INVALID_NAMESPACE.final_());
        }
        let all = 1..=self.namespaces.len() as u32;
        Ok(*encode_namespace_list(all.filter(|nsid| *nsid > above)))
    }

    /// A UUID of our own making (RFC 9562, version 8) for each namespace, which stays
    /// the same for as long as its file does.
    fn descriptors(&self, nsid: u32, sets: bool) -> [u8; BYTES] {
        let mut id = Vec::with_capacity(16);
        id.extend(mix(self.serial ^ u64::from(nsid)).to_be_bytes());
        id.extend(mix(self.serial.rotate_left(17) ^ u64::from(nsid) << 32).to_be_bytes());
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        let mut all = vec![Descriptor { kind: 3, id }];
        if sets {
            all.push(Descriptor { kind: 4, id: vec![0] });
        }
        *encode_descriptors(&all)
    }

    /// Blocks that a write changes as one while the emulator lives: commands are
    /// executed one after another, so it is the largest there is.
    fn awun(&self) -> u16 {
        match self.profile {
            Profile::Freehold => ((self.traits.max_transfer() >> self.lba_shift) - 1) as u16,
            Profile::Qemu | Profile::Spdk => self.atomic_blocks - 1,
        }
    }

    fn identify_controller(&self) -> IdentifyController {
        let mut data = IdentifyController::new();
        let traits = &self.traits;
        data.set_vid(traits.vendor);
        data.set_ssvid(traits.vendor);
        data.set_serial(&format!("{:016x}", self.serial));
        data.set_model(traits.model);
        data.set_firmware(env!("CARGO_PKG_VERSION"));
        data.set_rab(6);
        data.set_mdts(traits.mdts);
        data.set_cntlid(0);
        data.set_ver(traits.version);
        data.set_cntrltype(1);
        data.set_oacs(if traits.shadow_doorbells { OACS_DOORBELL_BUFFER } else { 0 });
        data.set_acl(ACL);
        data.set_aerl(AERL);
        // One firmware slot, read-only.
        data.set_frmw(0b011);
        data.set_lpa(LPA_EFFECTS | LPA_EXTENDED);
        data.set_elpe(ERROR_ENTRIES as u8 - 1);
        // There is no sensor: the thresholds lie far from what SMART always says.
        data.set_wctemp(343);
        data.set_cctemp(373);
        let capacity: u64 = self.namespaces.iter().map(|n| n.blocks << self.lba_shift).sum();
        data.set_tnvmcap(u128::from(capacity));
        data.set_sqes((Command::LOG2 << 4 | Command::LOG2) as u8);
        data.set_cqes((Cqe::LOG2 << 4 | Cqe::LOG2) as u8);
        data.set_nn(self.namespaces.len() as u32);
        data.set_oncs(traits.oncs);
        data.set_vwc(traits.vwc);
        data.set_awun(self.awun());
        data.set_awupf(self.atomic_blocks - 1);
        data.set_ocfs(1);
        data.set_sgls(traits.sgls);
        data.set_subnqn(&format!("nqn.2026-11.invalid.freehold:{:016x}", self.serial));
        data
    }

    fn identify_namespace(&self, namespace: Namespace) -> IdentifyNamespace {
        let mut data = IdentifyNamespace::new();
        let len = namespace.blocks << self.lba_shift;
        data.set_nsze(namespace.blocks);
        data.set_ncap(namespace.blocks);
        let used = self.disk.allocated(namespace.start, len).div_ceil(1 << self.lba_shift);
        data.set_nuse(used.min(namespace.blocks));
        let mut features = 0;
        if self.disk.is_thin() {
            features |= NSFEAT_THIN;
        }
        if self.atomic_blocks > 1 {
            features |= NSFEAT_ATOMICS;
            data.set_nawun(self.awun());
            data.set_nawupf(self.atomic_blocks - 1);
            data.set_nabspf(self.atomic_blocks - 1);
        }
        data.set_nsfeat(features);
        if !self.disk.is_null() {
            data.set_dlfeat(DLFEAT_READS_ZEROES | DLFEAT_WRITE_ZEROES);
        }
        data.set_nvmcap(u128::from(len));
        data.set_mssrl(COPY_BLOCKS);
        data.set_mcl(u32::from(COPY_BLOCKS));
        data.set_msrc(self.traits.msrc);
        data.set_lba_format(
            0,
            LbaFormat { metadata: 0, lbads: self.lba_shift as u8, performance: 0 },
        );
        data
    }
}
