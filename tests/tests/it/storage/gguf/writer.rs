//! Writes GGUF files, sound ones and others.

/// A file in the making; each call adds to it.
#[derive(Default)]
pub(in crate::storage) struct Writer {
    version: u32,
    counts: Option<(u64, u64)>,
    n_keys: u64,
    metadata: Vec<u8>,
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    data: Vec<u8>,
}

/// Whole numbers as the bytes of `f32`s.
pub(in crate::storage) fn floats(numbers: impl IntoIterator<Item = i32>) -> Vec<u8> {
    numbers.into_iter().flat_map(|n| (n as f32).to_le_bytes()).collect()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Writer {
    pub(in crate::storage) fn new() -> Self {
        Self { version: 3, ..Self::default() }
    }

    pub(in crate::storage) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Tensors and metadata that the header claims.
    pub(in crate::storage) fn counts(mut self, tensors: u64, keys: u64) -> Self {
        self.counts = Some((tensors, keys));
        self
    }

    pub(in crate::storage) fn value(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.n_keys += 1;
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self
    }

    pub(in crate::storage) fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, 4, &value.to_le_bytes())
    }

    pub(in crate::storage) fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, 6, &value.to_le_bytes())
    }

    pub(in crate::storage) fn text(self, key: &str, value: &str) -> Self {
        self.value(key, 8, &text(value))
    }

    pub(in crate::storage) fn texts<S: AsRef<str>>(self, key: &str, values: &[S]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| text(value.as_ref())).collect();
        self.array(key, 8, values.len() as u64, &bytes)
    }

    /// An array that claims `count` elements.
    pub(in crate::storage) fn array(self, key: &str, element: u32, count: u64, bytes: &[u8]) -> Self {
        let value = [element.to_le_bytes().as_slice(), &count.to_le_bytes(), bytes].concat();
        self.value(key, 9, &value)
    }

    /// One value of each type, under keys that mean nothing.
    pub(in crate::storage) fn every_type(mut self) -> Self {
        for (kind, size) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)]
        {
            self = self.value(&format!("other.{kind}"), kind, &[0; 8][..size]).array(
                &format!("other.array.{kind}"),
                kind,
                2,
                &[0; 16][..2 * size],
            );
        }
        let nested = [4_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes(), &7_u32.to_le_bytes()].concat();
        self.texts("other.texts", &["a", "", "é"]).array("other.nested", 9, 1, &nested)
    }

    /// A tensor of this shape, outermost axis first.
    pub(in crate::storage) fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, self.data.len() as u64));
        self.data.extend(bytes);
        self
    }

    pub(in crate::storage) fn offset_of_last(mut self, offset: u64) -> Self {
        if let Some(last) = self.tensors.last_mut() {
            last.3 = offset;
        }
        self
    }

    pub(in crate::storage) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        let (n_tensors, n_keys) = self.counts.unwrap_or((self.tensors.len() as u64, self.n_keys));
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_keys.to_le_bytes());
        bytes.extend(&self.metadata);
        for (name, shape, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().rev().flat_map(|n| n.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}
