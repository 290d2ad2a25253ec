//! Placeholder.
/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {}
/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {}
impl super::Volume {
/// x
pub fn check(&self) -> crate::Result<CheckReport> { Ok(CheckReport{}) }
}
