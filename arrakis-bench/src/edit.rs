//! Notes and tags, added to a run by hand.

use std::fs;
use std::path::Path;

use arrakis_core::Error as CoreError;

use crate::environment::digest_of_file;
use crate::{Error, FORMAT, FileRecord, Log, Note, Outcome, Record, Result, Status, seal, writing};

impl Log {
    /// Marks a run with a word to find it by.
    pub fn tag(&self, id: &str, tag: &str) -> Result<Record> {
        check_tag(tag)?;
        self.edit(id, |record| {
            if !record.tags.iter().any(|known| known == tag) {
                record.tags.push(tag.to_owned());
            }
        })
    }

    /// Takes such a word from a run.
    pub fn untag(&self, id: &str, tag: &str) -> Result<Record> {
        self.edit(id, |record| record.tags.retain(|known| known != tag))
    }

    /// Writes a free text about a run.
    pub fn note(&self, id: &str, text: &str) -> Result<Record> {
        let note = Note::new(text);
        self.edit(id, |record| record.notes.push(note))
    }

    /// Changes the record of a run on the disk, and gives it; a run that was interrupted is settled first.
    fn edit(&self, id: &str, change: impl FnOnce(&mut Record)) -> Result<Record> {
        let id = self.get(id)?.id;
        let folder = self.run_folder(&id);
        let _hold = self.store.exclusive()?;
        let path = folder.join(writing::RECORD);
        let mut record = seal::read(&path)?;
        if record.status == Status::Running && !writing::at_work(&folder) {
            // It may have ended between the two looks.
            record = seal::read(&path)?;
            if record.status == Status::Running {
                writing::settle(&folder, &mut record, self.store.synced)?;
            }
        }
        if record.format < FORMAT {
            bring_up_to_date(&folder, &mut record)?;
        }
        change(&mut record);
        seal::write(&path, &record, self.store.synced)?;
        writing::true_status(&folder, &mut record)?;
        Ok(record)
    }
}

/// Makes a record of an earlier format one of today's.
pub(crate) fn bring_up_to_date(folder: &Path, record: &mut Record) -> Result<()> {
    name_files(folder, record)?;
    record.outcome = record.files.contains_key(writing::RESULT).then_some(Outcome::Answer);
    record.format = FORMAT;
    Ok(())
}

/// Names every file of a run with its digest, where its record did not: in format 1, and where the run was cut short.
pub(crate) fn name_files(folder: &Path, record: &mut Record) -> Result<()> {
    for name in files(folder)?.into_iter().filter(|name| !record.files.contains_key(name)).collect::<Vec<_>>() {
        let path = folder.join(&name);
        let (digest, bytes) = digest_of_file(&path).map_err(Error::file("read", &path))?;
        record.files.insert(name, FileRecord { digest, bytes });
    }
    Ok(())
}

/// The names of the finished files of a run, its record apart.
pub(crate) fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let name = entry.map_err(Error::file("read", folder))?.file_name().to_string_lossy().into_owned();
        if name != writing::RECORD && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// An error if a tag is no single word.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    if tag.is_empty() || tag.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == ',') {
        let why = "a tag is one word without commas".into();
        return Err(CoreError::Invalid { what: format!("tag `{tag}`"), why }.into());
    }
    Ok(())
}
