//! Writes PyTorch files, sound ones and others.

/// What a pickle says about one tensor.
#[derive(Clone)]
pub(in crate::storage) struct Described {
    pub(in crate::storage) name: &'static str,
    pub(in crate::storage) element: &'static str,
    pub(in crate::storage) key: &'static str,
    pub(in crate::storage) count: i64,
    pub(in crate::storage) offset: i64,
    pub(in crate::storage) shape: Vec<i64>,
    pub(in crate::storage) strides: Vec<i64>,
}

impl Described {
    /// The whole of a storage of floats.
    pub(in crate::storage) fn whole(name: &'static str, key: &'static str, count: i64) -> Self {
        Self { name, element: "Float", key, count, offset: 0, shape: vec![count], strides: vec![1] }
    }

    /// The opcodes that leave the tensor on the stack.
    pub(in crate::storage) fn opcodes(&self) -> Vec<u8> {
        [
            global("torch._utils", "_rebuild_tensor_v2"),
            b"(".to_vec(),
            storage(self.element, self.key, self.count),
            int(self.offset),
            tuple(&self.shape),
            tuple(&self.strides),
            b"\x89".to_vec(),
            global("collections", "OrderedDict"),
            b")RtR".to_vec(),
        ]
        .concat()
    }
}

/// The opcodes of a storage.
pub(in crate::storage) fn storage(element: &str, key: &str, count: i64) -> Vec<u8> {
    let kind = global("torch", &format!("{element}Storage"));
    [b"(".to_vec(), text("storage"), kind, text(key), text("cpu"), int(count), b"tQ".to_vec()].concat()
}

pub(in crate::storage) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(in crate::storage) fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub(in crate::storage) fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &value.to_le_bytes()].concat()
}

fn tuple(values: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), values.iter().flat_map(|&value| int(value)).collect(), b"t".to_vec()].concat()
}

/// A pickle of these opcodes.
pub(in crate::storage) fn pickle(opcodes: &[u8]) -> Vec<u8> {
    [b"\x80\x02", opcodes, b"."].concat()
}

/// The pickle of a state dict, with the versions of its modules.
pub(in crate::storage) fn state(tensors: &[Described]) -> Vec<u8> {
    let entries = tensors.iter().flat_map(|tensor| [text(tensor.name), tensor.opcodes()].concat()).collect();
    let versions = [b"}".to_vec(), text("_metadata"), b"}q\x01s".to_vec()].concat();
    pickle(
        &[global("collections", "OrderedDict"), b")Rq\x00(".to_vec(), entries, b"u".to_vec(), versions, b"b".to_vec()]
            .concat(),
    )
}

/// An archive of stored members, each beginning at a multiple of 64 bytes as `torch.save` has them.
pub(in crate::storage) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    archive(members, false)
}

/// The same with every size and place in 64 bits, as a file of more than 4 GiB has them.
pub(in crate::storage) fn zip64(members: &[(&str, &[u8])]) -> Vec<u8> {
    archive(members, true)
}

fn archive(members: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    let narrow = |value: u64| if wide { [0xff; 4] } else { (value as u32).to_le_bytes() };
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let (offset, size) = (file.len() as u64, bytes.len() as u64);
        let header = file.len() + 30 + name.len();
        let padding = header.next_multiple_of(64) - header;
        let sizes = [[0; 4], narrow(size), narrow(size)].concat();
        let name_length = (name.len() as u16).to_le_bytes();
        file.extend(
            [b"PK\x03\x04", [0; 10].as_slice(), &sizes, &name_length, &(padding as u16).to_le_bytes()].concat(),
        );
        file.extend(name.as_bytes());
        file.resize(file.len() + padding, b'Z');
        file.extend(*bytes);
        let values = [size, size, offset].map(u64::to_le_bytes).concat();
        let extra = if wide { [b"\x09\0\x02\0ab\x01\0\x18\0", values.as_slice()].concat() } else { Vec::new() };
        directory.extend([b"PK\x01\x02", [0; 12].as_slice(), &sizes, &name_length].concat());
        directory.extend([&(extra.len() as u16).to_le_bytes(), [0; 10].as_slice(), &narrow(offset)].concat());
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let (start, size) = (file.len() as u64, directory.len() as u64);
    let (count, places) = (members.len() as u64, [narrow(size), narrow(start)].concat());
    file.extend(directory);
    if wide {
        let end = (file.len() as u64).to_le_bytes();
        let values = [count, count, size, start].map(u64::to_le_bytes).concat();
        file.extend([b"PK\x06\x06\x2c\0\0\0\0\0\0\0", [0; 12].as_slice(), &values].concat());
        file.extend([b"PK\x06\x07\0\0\0\0", end.as_slice(), &[1, 0, 0, 0]].concat());
    }
    let count = if wide { [0xff; 2] } else { (count as u16).to_le_bytes() };
    file.extend([b"PK\x05\x06\0\0\0\0", count.as_slice(), &count, &places, &[0; 2]].concat());
    file
}

/// The form before 1.6: the state dict, and the storages with the size of an element.
pub(in crate::storage) fn legacy(state: &[u8], storages: &[(&str, usize, &[u8])]) -> Vec<u8> {
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let system = [b"}".to_vec(), text("little_endian"), b"\x88s".to_vec()].concat();
    let keys = storages.iter().flat_map(|(key, ..)| text(key)).collect();
    let keys = [b"](".to_vec(), keys, b"e".to_vec()].concat();
    let mut file = [pickle(magic), pickle(&int(1001)), pickle(&system), state.to_vec(), pickle(&keys)].concat();
    for (_, size, bytes) in storages {
        file.extend(((bytes.len() / size) as u64).to_le_bytes());
        file.extend(*bytes);
    }
    file
}
