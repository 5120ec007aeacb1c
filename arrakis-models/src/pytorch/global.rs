//! The few names that a state dict takes from Python's modules; every other one is refused.

use tch::Kind;

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `(storage, offset, shape, strides, ..)`
    Tensor,
    /// As [`Global::Tensor`] with the dtype as seventh.
    TensorOfDtype,
    /// `(tensor, ..)`
    Parameter,
    /// A storage of elements of one kind.
    Storage(Kind),
    /// A storage of bytes.
    UntypedStorage,
    Dtype(Kind),
}

impl Global {
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TensorOfDtype,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch" | "torch.storage", "UntypedStorage" | "_UntypedStorage") => Self::UntypedStorage,
            ("torch", name) => match name.strip_suffix("Storage") {
                Some(element) => Self::Storage(element_kind(element)?),
                None => Self::Dtype(dtype_kind(name)?),
            },
            _ => return None,
        })
    }
}

fn element_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "Bool" => Kind::Bool,
        "Byte" => Kind::Uint8,
        "Char" => Kind::Int8,
        "Short" => Kind::Int16,
        "Int" => Kind::Int,
        "Long" => Kind::Int64,
        "Half" => Kind::Half,
        "BFloat16" => Kind::BFloat16,
        "Float" => Kind::Float,
        "Double" => Kind::Double,
        _ => return None,
    })
}

fn dtype_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "bool" => Kind::Bool,
        "uint8" => Kind::Uint8,
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "int32" => Kind::Int,
        "int64" => Kind::Int64,
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "float32" => Kind::Float,
        "float64" => Kind::Double,
        _ => return None,
    })
}
