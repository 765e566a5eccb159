//! BYTES on the wire: each element is its length (u32, little-endian) and then that many bytes.

use bytes::{BufMut as _, Bytes};

use crate::api::{Data, Error, Result};

use super::shape::Shape;

const PREFIX: usize = 4;

/// Splits the wire form into elements, without copying them.
pub(crate) fn split(tensor: &str, shape: &Shape, raw: &Bytes) -> Result<Vec<Bytes>> {
    // What the data can hold bounds the allocation, not what the shape claims.
    let mut elements = Vec::with_capacity(shape.elements.min(raw.len() / PREFIX));
    let mut at = 0;
    while at < raw.len() {
        let prefix = raw
            .get(at..at + PREFIX)
            .and_then(|prefix| <[u8; PREFIX]>::try_from(prefix).ok());
        let Some(prefix) = prefix else {
            return Err(Error::invalid(format!(
                "{tensor}: ends inside the length of element {}",
                elements.len()
            )));
        };
        let length = u32::from_le_bytes(prefix) as usize;
        let start = at + PREFIX;
        if length > raw.len() - start {
            return Err(Error::invalid(format!(
                "{tensor}: element {} claims {length} bytes, {} are left",
                elements.len(),
                raw.len() - start,
            )));
        }
        if elements.len() == shape.elements {
            return Err(Error::invalid(format!(
                "{tensor}: more elements than shape {:?} holds",
                shape.extents
            )));
        }
        elements.push(raw.slice(start..start + length));
        at = start + length;
    }
    if elements.len() != shape.elements {
        return Err(Error::invalid(format!(
            "{tensor}: {} elements of data, shape {:?} needs {}",
            elements.len(),
            shape.extents,
            shape.elements,
        )));
    }
    Ok(elements)
}

/// Appends a tensor's wire form.
pub(crate) fn append(out: &mut Vec<u8>, data: &Data) -> Result<()> {
    match data {
        Data::Fixed(bytes) => out.extend_from_slice(bytes),
        Data::Strings(elements) => {
            for element in elements {
                out.put_u32_le(length(element)?);
                out.extend_from_slice(element);
            }
        }
    }
    Ok(())
}

/// Bytes of a tensor's wire form.
pub(crate) fn wire_size(data: &Data) -> usize {
    match data {
        Data::Fixed(bytes) => bytes.len(),
        Data::Strings(elements) => elements.iter().map(|element| PREFIX + element.len()).sum(),
    }
}

/// A tensor's wire form; numbers are not copied.
pub(crate) fn wire_form(data: Data) -> Result<Bytes> {
    match data {
        Data::Fixed(bytes) => Ok(bytes),
        Data::Strings(_) => {
            let mut out = Vec::with_capacity(wire_size(&data));
            append(&mut out, &data)?;
            Ok(out.into())
        }
    }
}

fn length(element: &Bytes) -> Result<u32> {
    u32::try_from(element.len()).map_err(|_| Error::internal("an output string is longer than 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(elements: usize) -> Shape {
        Shape {
            extents: vec![elements],
            elements,
        }
    }

    #[test]
    fn strings_come_back_as_they_were() {
        let elements = vec![
            Bytes::from_static(b"abc"),
            Bytes::new(),
            Bytes::from_static(&[0, 255]),
        ];
        let wire = wire_form(Data::Strings(elements.clone())).unwrap();
        assert_eq!(wire.len(), 4 * 3 + 5);
        assert_eq!(split("x", &shape(3), &wire).unwrap(), elements);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (wire, count) in [
            (&[1, 0, 0][..], 1),            // half a length
            (&[5, 0, 0, 0, 1], 1),          // more claimed than there is
            (&[255, 255, 255, 255], 1),     // 4 GiB claimed
            (&[0, 0, 0, 0], 2),             // too few
            (&[0, 0, 0, 0, 0, 0, 0, 0], 1), // too many
            (&[], 1),                       // none
            (&[], usize::MAX),              // none of a huge claim
        ] {
            assert!(
                split("x", &shape(count), &Bytes::copy_from_slice(wire)).is_err(),
                "{wire:?}"
            );
        }
    }
}
