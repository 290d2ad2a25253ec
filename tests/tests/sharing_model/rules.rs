//! The rules of the model, and every way in which a run may break one of them.
//!
//! A detector is proved by sabotage: [`Break`] names one rule that the run
//! leaves out, and [`Broken::by`] says which check must notice it.

/// One rule that a run leaves out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// All rules are kept.
    Nothing,
    /// B1: a stale leaf is stamped with its own bits still set.
    StampKeepsBits,
    /// B1: a stale leaf is merged into a current one with its bits still set.
    MergeKeepsStaleBits,
    /// B1: two extents that become one take the OR of their bits.
    ExtentsTakeOr,
    /// B1: the copy of a shared leaf keeps the bits.
    CopyKeepsBits,
    /// B1: one unshared block sets the bit of its whole extent.
    BitFromOneBlock,
    /// B1: a look-up sets the bit long after it looked, whatever came between.
    BitSetLate,
    /// B1: a reflink does not raise the generation of the file it reads.
    SourceGeneration,
    /// B1: a whole reflink gives the new file no generation.
    CloneGeneration,
    /// B1: a range reflink does not raise the generation of the file it fills.
    TargetGeneration,
    /// B1: a range reflink touches leaves between raising the counter and
    /// raising the generations of its files.
    GenerationsRaisedLate,
    /// B1: the slow path looks at the nodes alone.
    PathOnly,
    /// B1: the slow path looks at the block's count alone.
    CountOnly,
    /// B1: quarantine leaves the own bits alone.
    QuarantineKeepsBits,
    /// B1: quarantine is not counted as an owner.
    QuarantineUncounted,
    /// B1: a bit cleared by quarantine is lost when the clean leaf is evicted.
    QuarantineUnwritten,
    /// B1: a checkpoint writes stamps and bits that are younger than its cut.
    CutTakesLaterStamps,
    /// B2: lowerings that are not durable are ignored.
    PendingIgnored,
    /// B2: a child that moves between nodes is not lowered, as its count stays.
    MoveIsNeutral,
    /// B2: structure goes by the sum instead of the exact count.
    StructureBySum,
    /// B2: a node that is copied hands no counts to its children.
    CopyHandsNoCounts,
    /// B3: a block is reused before the record that freed it is durable.
    EarlyReuse,
    /// B5: a block is written in place at an offset that a crash may undo.
    ShiftIgnored,
}

/// Which check notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A decision said "unshared" of a block that someone else may reach.
    Lie,
    /// Everything is durable, one owner is left, and it is told "shared".
    Stuck,
    /// A count differs from the tree, a block is lost or owned by nobody.
    Count,
    /// Something was freed that was free.
    DoubleFree,
    /// Recovery gave another map than the one at that record.
    Diverged,
}

/// A rule together with the check that must notice its loss.
pub(crate) struct Broken {
    /// The rule that is left out.
    pub(crate) rule: Break,
    /// The checks of which one must speak first.
    pub(crate) by: &'static [Kind],
}

const LIE: &[Kind] = &[Kind::Lie];
const COUNT: &[Kind] = &[Kind::Count, Kind::DoubleFree];

/// Every sabotage.
pub(crate) const BROKEN: &[Broken] = &[
    Broken { rule: Break::StampKeepsBits, by: LIE },
    Broken { rule: Break::MergeKeepsStaleBits, by: LIE },
    Broken { rule: Break::ExtentsTakeOr, by: LIE },
    Broken { rule: Break::CopyKeepsBits, by: LIE },
    Broken { rule: Break::BitFromOneBlock, by: LIE },
    Broken { rule: Break::BitSetLate, by: LIE },
    Broken { rule: Break::SourceGeneration, by: LIE },
    Broken { rule: Break::CloneGeneration, by: LIE },
    Broken { rule: Break::TargetGeneration, by: LIE },
    Broken { rule: Break::GenerationsRaisedLate, by: LIE },
    Broken { rule: Break::PathOnly, by: LIE },
    Broken { rule: Break::CountOnly, by: LIE },
    Broken { rule: Break::QuarantineKeepsBits, by: LIE },
    Broken { rule: Break::QuarantineUncounted, by: LIE },
    Broken { rule: Break::QuarantineUnwritten, by: LIE },
    Broken { rule: Break::CutTakesLaterStamps, by: LIE },
    Broken { rule: Break::PendingIgnored, by: LIE },
    Broken { rule: Break::MoveIsNeutral, by: LIE },
    Broken { rule: Break::StructureBySum, by: COUNT },
    Broken { rule: Break::CopyHandsNoCounts, by: COUNT },
    Broken { rule: Break::EarlyReuse, by: LIE },
    Broken { rule: Break::ShiftIgnored, by: LIE },
];

/// What went wrong, with a sentence.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Which check spoke.
    pub(crate) kind: Kind,
    /// What it saw.
    pub(crate) text: String,
}

/// A fault as an error.
pub(crate) fn fault<T>(kind: Kind, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { kind, text: text.into() })
}
