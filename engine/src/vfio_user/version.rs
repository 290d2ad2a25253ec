//! What two sides agree on first: version and capabilities, as JSON.
//!
//! Spec, `VFIO_USER_VERSION`: every name is optional and has a default; unknown names are
//! passed over. A number that makes no sense is refused here, so that nothing above meets
//! it.

use super::wire::{self, Version};
use serde_json::{Map, Value, json};

/// The longest JSON that is read: a peer that needs more says things we do not know.
const MAX_JSON: usize = 16 << 10;

/// What a side can take, with the defaults for what it did not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Descriptors with one message.
    pub(crate) max_fds: u32,
    /// Bytes of data in one transfer message.
    pub(crate) max_data: u32,
    /// Mappings at once.
    pub(crate) max_maps: u32,
    /// Page sizes of mappings, as a bit mask.
    pub(crate) page_sizes: u64,
    /// The names that the side did say.
    pub(crate) said: Vec<&'static str>,
}

const FDS: &str = "max_msg_fds";
const DATA: &str = "max_data_xfer_size";
const MAPS: &str = "max_dma_maps";
const PAGES: &str = "pgsizes";

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_fds: wire::DEFAULT_FDS,
            max_data: wire::MAX_DATA,
            max_maps: wire::DEFAULT_MAPS,
            page_sizes: wire::DEFAULT_PAGE_SIZES,
            said: Vec::new(),
        }
    }
}

impl Capabilities {
    /// What this code takes, all of it said.
    pub(crate) fn ours(max_maps: u32) -> Self {
        Self {
            max_fds: wire::MAX_FDS as u32,
            max_maps,
            said: vec![FDS, DATA, MAPS, PAGES],
            ..Self::default()
        }
    }

    /// Leaves of our own only what the other side proposed: an answer's list must be a
    /// subset of the proposed one.
    pub(crate) fn answering(mut self, proposed: &Self) -> Self {
        self.said.retain(|name| proposed.said.contains(name));
        self
    }

    /// The payload of a version message.
    pub(crate) fn encode(&self, minor: u16) -> Vec<u8> {
        let mut names = Map::new();
        for &name in &self.said {
            let value = match name {
                FDS => json!(self.max_fds),
                DATA => json!(self.max_data),
                MAPS => json!(self.max_maps),
                _ => json!(self.page_sizes),
            };
            names.insert(name.to_owned(), value);
        }
        let mut payload = Vec::new();
        Version { major: wire::MAJOR, minor }.encode(&mut payload);
        payload.extend_from_slice(json!({ "capabilities": names }).to_string().as_bytes());
        payload.push(0);
        payload
    }
}

/// Reads the payload of a version message.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn decode(payload: &[u8]) -> Result<(Version, Capabilities), String> {
    let version = Version::decode(payload).ok_or("a version message without a version")?;
    let text = &payload[Version::LEN..];
    if text.is_empty() {
        return Ok((version, Capabilities::default()));
    }
    if text.len() > MAX_JSON {
        return Err(format!("{} bytes of version data, {MAX_JSON} at most", text.len()));
    }
    let text = text.strip_suffix(&[0]).ok_or("version data without a zero at its end")?;
    let value: Value =
        serde_json::from_slice(text).map_err(|e| format!("version data that is no JSON: {e}"))?;
    let top = value.as_object().ok_or("version data that is no JSON object")?;
    let mut caps = Capabilities::default();
    let Some(names) = top.get("capabilities") else { return Ok((version, caps)) };
    let names = names.as_object().ok_or("capabilities that are no JSON object")?;
    if let Some(fds) = number(names, FDS, u64::from(u32::MAX))? {
        caps.max_fds = fds as u32;
        caps.said.push(FDS);
    }
    if let Some(bytes) = number(names, DATA, u64::MAX)? {
        if bytes < 8 {
            return Err(format!("{DATA} of {bytes}: no register fits"));
        }
        caps.max_data = bytes.min(u64::from(wire::MAX_DATA)) as u32;
        caps.said.push(DATA);
    }
    if let Some(maps) = number(names, MAPS, u64::MAX)? {
        caps.max_maps = maps.min(u64::from(u32::MAX)) as u32;
        caps.said.push(MAPS);
    }
    if let Some(sizes) = number(names, PAGES, u64::MAX)? {
        if sizes == 0 || sizes.trailing_zeros() < 12 {
            return Err(format!("{PAGES} of {sizes:#x}: no page size from 4096 on"));
        }
        caps.page_sizes = sizes;
        caps.said.push(PAGES);
    }
    Ok((version, caps))
}

/// A number of a name, if the name is there.
fn number(names: &Map<String, Value>, name: &str, most: u64) -> Result<Option<u64>, String> {
    match names.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number <= most => Ok(Some(number)),
            _ => Err(format!("{name} is not a number that makes sense")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Capabilities, String> {
        let mut payload = vec![0, 0, 1, 0];
        payload.extend_from_slice(text.as_bytes());
        decode(&payload).map(|(_, caps)| caps)
    }

    #[test]
    fn what_is_said_comes_back_and_the_rest_is_by_default() {
        let ours = Capabilities::ours(77);
        let (version, back) = decode(&ours.encode(1)).unwrap();
        assert_eq!((version.major, version.minor), (0, 1));
        assert_eq!(back, ours);
        assert_eq!(read("").unwrap(), Capabilities::default());
        assert_eq!(read("{}\0").unwrap(), Capabilities::default());
        let some = read("{\"capabilities\":{\"max_msg_fds\":3,\"other\":[1]}}\0").unwrap();
        assert_eq!(some, Capabilities { max_fds: 3, said: vec![FDS], ..Default::default() });
        let answer = Capabilities::ours(5).answering(&some);
        assert_eq!(decode(&answer.encode(0)).unwrap().1.said, [FDS]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(decode(&[0, 0, 0]).is_err());
        let bad = [
            "{}",
            "{\0",
            "[]\0",
            "{\"capabilities\":3}\0",
            "{\"capabilities\":{\"max_msg_fds\":-1}}\0",
            "{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0",
            "{\"capabilities\":{\"max_msg_fds\":4294967296}}\0",
            "{\"capabilities\":{\"max_data_xfer_size\":7}}\0",
            "{\"capabilities\":{\"max_data_xfer_size\":1.5}}\0",
            "{\"capabilities\":{\"pgsizes\":0}}\0",
            "{\"capabilities\":{\"pgsizes\":2048}}\0",
            "{\"capabilities\":{\"pgsizes\":1e400}}\0",
        ];
        for text in bad {
            assert!(read(text).is_err(), "{text:?}");
        }
        let deep = format!("{}\0", "[".repeat(10_000));
        assert!(read(&deep).is_err());
        assert!(read(&format!("{}\0", " ".repeat(MAX_JSON))).is_err());
        let huge = read("{\"capabilities\":{\"max_data_xfer_size\":18446744073709551615}}\0");
        assert_eq!(huge.unwrap().max_data, wire::MAX_DATA);
    }
}
