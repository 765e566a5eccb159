//! A tensor's elements as JSON: nested as its shape, or flat.

use std::borrow::Cow;

use bytes::Bytes;

use crate::api::{Data, Datatype, Error, Result, Tensor};
use crate::wire::json::{Kind, Reader};
use crate::wire::oip::shape::Shape;

/// Reads `data`. `tensor` names it in errors.
pub(super) fn read(
    tensor: &str,
    datatype: Datatype,
    shape: Shape,
    reader: &mut Reader<'_>,
) -> Result<Tensor> {
    let source = Source {
        tensor,
        shape: &shape,
    };
    let data = match datatype {
        Datatype::Bool => source.fixed(reader, |_, reader| Ok([u8::from(reader.bool()?)])),
        Datatype::Uint8 => source.fixed(reader, |source, reader| {
            Ok(source.number::<u8>(reader)?.to_le_bytes())
        }),
        Datatype::Uint16 => source.fixed(reader, |source, reader| {
            Ok(source.number::<u16>(reader)?.to_le_bytes())
        }),
        Datatype::Uint32 => source.fixed(reader, |source, reader| {
            Ok(source.number::<u32>(reader)?.to_le_bytes())
        }),
        Datatype::Uint64 => source.fixed(reader, |source, reader| {
            Ok(source.number::<u64>(reader)?.to_le_bytes())
        }),
        Datatype::Int8 => source.fixed(reader, |source, reader| {
            Ok(source.number::<i8>(reader)?.to_le_bytes())
        }),
        Datatype::Int16 => source.fixed(reader, |source, reader| {
            Ok(source.number::<i16>(reader)?.to_le_bytes())
        }),
        Datatype::Int32 => source.fixed(reader, |source, reader| {
            Ok(source.number::<i32>(reader)?.to_le_bytes())
        }),
        Datatype::Int64 => source.fixed(reader, |source, reader| {
            Ok(source.number::<i64>(reader)?.to_le_bytes())
        }),
        Datatype::Fp32 => source.fixed(reader, |source, reader| {
            Ok(source.number::<f32>(reader)?.to_le_bytes())
        }),
        Datatype::Fp64 => source.fixed(reader, |source, reader| {
            Ok(source.number::<f64>(reader)?.to_le_bytes())
        }),
        Datatype::Fp16 | Datatype::Bf16 => Err(Error::invalid(format!(
            "{tensor}: {} cannot travel as JSON; send it as binary data",
            datatype.name()
        ))),
        Datatype::Bytes => source.strings(reader),
    }?;
    Ok(Tensor {
        datatype,
        shape: shape.extents,
        data,
    })
}

/// A number as a datatype understands it.
trait Number: Sized {
    /// The wire name, for errors.
    const NAME: &str;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty = $name:literal),*) => {$(
        impl Number for $type {
            const NAME: &str = $name;
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty = $name:literal),*) => {$(
        impl Number for $type {
            const NAME: &str = $name;
            fn parse(text: &str) -> Option<Self> {
                // Rust reads the literals `NaN`, `Infinity` and `-Infinity` too. A finite number that only fits as an
                // infinity is out of range.
                let value: Self = text.parse().ok()?;
                (value.is_finite() || text.ends_with(['N', 'y'])).then_some(value)
            }
        }
    )*};
}

integers!(
    u8 = "UINT8",
    u16 = "UINT16",
    u32 = "UINT32",
    u64 = "UINT64",
    i8 = "INT8",
    i16 = "INT16",
    i32 = "INT32",
    i64 = "INT64"
);
floats!(f32 = "FP32", f64 = "FP64");

struct Source<'a> {
    tensor: &'a str,
    shape: &'a Shape,
}

impl Source<'_> {
    fn fixed<const N: usize>(
        &self,
        reader: &mut Reader<'_>,
        element: impl Fn(&Self, &mut Reader<'_>) -> Result<[u8; N]>,
    ) -> Result<Data> {
        // An element takes two bytes of text at least; that, not the claimed shape, bounds the allocation.
        let room = self.shape.elements.min(reader.remaining() / 2 + 1);
        let mut out = Vec::with_capacity(room * N);
        self.elements(reader, &mut |reader| {
            out.extend_from_slice(&element(self, reader)?);
            Ok(())
        })?;
        Ok(Data::Fixed(out.into()))
    }

    fn strings(&self, reader: &mut Reader<'_>) -> Result<Data> {
        let mut out = Vec::with_capacity(self.shape.elements.min(reader.remaining() / 3 + 1));
        self.elements(reader, &mut |reader| {
            out.push(match reader.string()? {
                Cow::Borrowed(text) => Bytes::copy_from_slice(text.as_bytes()),
                Cow::Owned(text) => Bytes::from(text),
            });
            Ok(())
        })?;
        Ok(Data::Strings(out))
    }

    fn number<T: Number>(&self, reader: &mut Reader<'_>) -> Result<T> {
        let text = reader.number()?;
        T::parse(text).ok_or_else(|| {
            // The text may be megabytes of digits.
            let shown: String = text.chars().take(40).collect();
            Error::invalid(format!("{}: {shown} is not a value of {}", self.tensor, T::NAME))
        })
    }

    /// Calls `element` at each element, in row-major order, and checks that there are as many as the shape says.
    fn elements(
        &self,
        reader: &mut Reader<'_>,
        element: &mut dyn FnMut(&mut Reader<'_>) -> Result<()>,
    ) -> Result<()> {
        if reader.peek()? != Kind::Array {
            if self.shape.extents.is_empty() {
                return element(reader);
            }
            return Err(Error::invalid(format!("{}: data must be an array", self.tensor)));
        }
        if nested(*reader)? {
            return self.nested(reader, &self.shape.extents, element);
        }
        let mut count = 0;
        reader.array(|reader| {
            count += 1;
            if count > self.shape.elements {
                return Err(self.count(format_args!("more than {}", self.shape.elements)));
            }
            element(reader)
        })?;
        if count < self.shape.elements {
            return Err(self.count(format_args!("{count}")));
        }
        Ok(())
    }

    fn nested(
        &self,
        reader: &mut Reader<'_>,
        extents: &[usize],
        element: &mut dyn FnMut(&mut Reader<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some((extent, inner)) = extents.split_first() else {
            return element(reader);
        };
        if reader.peek()? != Kind::Array {
            return Err(self.ragged());
        }
        let mut count = 0;
        reader.array(|reader| {
            count += 1;
            if count > *extent {
                return Err(self.ragged());
            }
            self.nested(reader, inner, element)
        })?;
        if count < *extent {
            return Err(self.ragged());
        }
        Ok(())
    }

    fn count(&self, found: std::fmt::Arguments<'_>) -> Error {
        Error::invalid(format!(
            "{}: {found} elements of data, shape {:?} needs {}",
            self.tensor, self.shape.extents, self.shape.elements
        ))
    }

    fn ragged(&self) -> Error {
        Error::invalid(format!(
            "{}: nested data must have exactly the shape {:?}; flat data may be given instead",
            self.tensor, self.shape.extents
        ))
    }
}

/// Whether the array that comes next holds arrays.
fn nested(mut reader: Reader<'_>) -> Result<bool> {
    Ok(reader.first_inside()? == Some(Kind::Array))
}

#[cfg(test)]
mod tests;
