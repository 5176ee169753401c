//! Reading what scripts answer. A reply of another shape than the script gives is a fault of the store, never a panic.

use crate::store::StoreError;
use redis::Value;

/// A reply, taken apart from its front.
pub(super) struct Reply(std::vec::IntoIter<Value>);

// === impl Reply ===

impl Reply {
    /// An array.
    pub(super) fn array(value: Value) -> Result<Reply, StoreError> {
        match value {
            Value::Array(values) => Ok(Reply(values.into_iter())),
            other => Err(foreign(&other)),
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The next one, as bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        bytes(self.0.next().unwrap_or(Value::Nil))
    }

    /// The next one, as bytes; `None` where there are none.
    pub(super) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            None | Some(Value::Nil) => Ok(None),
            Some(value) => bytes(value).map(Some),
        }
    }

    /// The next one, as text.
    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The next one, as a number.
    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        number(&self.0.next().unwrap_or(Value::Nil))
    }

    /// The next one, as bytes of a fixed length.
    pub(super) fn exactly<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes()?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| foreign(&Value::BulkString(bytes)))
    }
}

impl Iterator for Reply {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
}

/// Bytes.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        other => Err(foreign(&other)),
    }
}

/// A number that is not negative; what is below counts as zero.
pub(super) fn number(value: &Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => Ok(u64::try_from(*number).unwrap_or(0)),
        Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| foreign(value))
        }
        other => Err(foreign(other)),
    }
}

fn foreign(value: &Value) -> StoreError {
    let mut shown = format!("{value:?}");
    shown.truncate(shown.floor_char_boundary(80));
    StoreError::Unavailable(format!("it answers what no script of this version does ({shown})"))
}
