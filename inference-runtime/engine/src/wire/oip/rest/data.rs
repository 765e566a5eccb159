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
mod tests {
    use super::*;
    use crate::wire::oip::shape;

    fn data(datatype: Datatype, claimed: &[i64], text: &str) -> Result<Data> {
        let shape = shape::check("input `x`", datatype, claimed)?;
        let mut reader = Reader::new(text.as_bytes(), 100);
        let tensor = read("input `x`", datatype, shape, &mut reader)?;
        reader.end()?;
        Ok(tensor.data)
    }

    fn floats(values: &[f32]) -> Data {
        Data::Fixed(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    #[test]
    fn nested_and_flat_data_are_the_same_tensor() {
        let wanted = floats(&[1.0, 2.0, 3.0, 4.5]);
        for text in ["[[1,2],[3,4.5]]", "[1, 2, 3, 45e-1]", "[ [1.0,\n2] ,[3,4.5] ]"] {
            assert_eq!(data(Datatype::Fp32, &[2, 2], text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn scalars_and_empty_tensors_have_their_forms() {
        assert_eq!(data(Datatype::Fp32, &[], "5").unwrap(), floats(&[5.0]));
        assert_eq!(data(Datatype::Fp32, &[], "[5]").unwrap(), floats(&[5.0]));
        assert_eq!(data(Datatype::Fp32, &[0, 3], "[]").unwrap(), floats(&[]));
        assert_eq!(data(Datatype::Fp32, &[2, 0], "[[],[]]").unwrap(), floats(&[]));
        assert_eq!(data(Datatype::Fp32, &[2, 0], "[]").unwrap(), floats(&[]));
        assert_eq!(
            data(Datatype::Bytes, &[0], "[]").unwrap(),
            Data::Strings(Vec::new())
        );
    }

    #[test]
    fn counts_and_nesting_that_differ_from_the_shape_are_refused() {
        for text in [
            "[1,2,3]",
            "[1,2,3,4,5]",
            "[]",
            "[[1,2],[3]]",
            "[[1,2],[3,4,5]]",
            "[[1,2]]",
            "[[1,2],[3,4],[5,6]]",
            "[[1,2],3,4]",
            "[1,[2,3],4]",
            "[[[1],[2]],[[3],[4]]]",
            "[[[[1,2,3,4]]]]",
            "1",
            "\"1234\"",
            "{}",
            "null",
            "[1,2,3,null]",
        ] {
            assert!(data(Datatype::Fp32, &[2, 2], text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_integer_type_takes_its_range_and_no_more() {
        use Datatype::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        for (datatype, low, high) in [
            (Uint8, 0, i128::from(u8::MAX)),
            (Uint16, 0, i128::from(u16::MAX)),
            (Uint32, 0, i128::from(u32::MAX)),
            (Uint64, 0, i128::from(u64::MAX)),
            (Int8, i128::from(i8::MIN), i128::from(i8::MAX)),
            (Int16, i128::from(i16::MIN), i128::from(i16::MAX)),
            (Int32, i128::from(i32::MIN), i128::from(i32::MAX)),
            (Int64, i128::from(i64::MIN), i128::from(i64::MAX)),
        ] {
            assert!(
                data(datatype, &[2], &format!("[{low},{high}]")).is_ok(),
                "{datatype:?}"
            );
            for beyond in [low - 1, high + 1] {
                let error = data(datatype, &[1], &format!("[{beyond}]")).unwrap_err();
                assert!(error.message.contains(datatype.name()), "{error}");
            }
        }
        for text in ["[1.0]", "[1e2]", "[NaN]", "[true]", "[\"1\"]"] {
            assert!(data(Int32, &[1], text).is_err(), "{text}");
        }
    }

    #[test]
    fn floats_take_the_literals_of_python_but_no_overflow() {
        let Data::Fixed(bytes) = data(Datatype::Fp32, &[3], "[NaN,Infinity,-Infinity]").unwrap() else {
            panic!("fixed");
        };
        let read: Vec<f32> = bytes
            .chunks(4)
            .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
            .collect();
        assert!(read[0].is_nan());
        assert_eq!(read[1..], [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(data(Datatype::Fp32, &[1], "[1e39]").is_err());
        assert!(data(Datatype::Fp64, &[1], "[1e39]").is_ok());
        assert!(data(Datatype::Fp64, &[1], "[-1e309]").is_err());
    }

    #[test]
    fn half_precision_is_refused_with_a_way_out() {
        for datatype in [Datatype::Fp16, Datatype::Bf16] {
            let error = data(datatype, &[1], "[1]").unwrap_err();
            assert!(error.message.contains("binary"), "{error}");
        }
    }

    #[test]
    fn strings_and_truths_are_read() {
        let strings = data(Datatype::Bytes, &[2], r#"["a\u00e9", ""]"#).unwrap();
        assert_eq!(strings, Data::Strings(vec![Bytes::from("aé"), Bytes::new()]));
        let truths = data(Datatype::Bool, &[2], "[true,false]").unwrap();
        assert_eq!(truths, Data::Fixed(Bytes::from_static(&[1, 0])));
        assert!(data(Datatype::Bool, &[1], "[1]").is_err());
        assert!(data(Datatype::Bytes, &[1], "[1]").is_err());
    }

    #[test]
    fn a_huge_claim_costs_nothing() {
        assert!(data(Datatype::Fp32, &[1 << 40], "[1]").is_err());
        assert!(data(Datatype::Bytes, &[1 << 60], "[\"\"]").is_err());
    }
}
