//! Versions of code: what keeps them, and what changes them.

// The macros' own walk: a crate of macros can export nothing else.
#[path = "../../../../arrakis-macros/src/version.rs"]
mod walk;

fn version(code: &str) -> String {
    walk::version(&code.parse().unwrap())
}

const CODE: &str = r#"
    /// Counts what is seen.
    #[must_use]
    pub fn seen(bench: &Bench, words: Vec<Vec<u8>>, most: Option<f64>) -> Result<f64> {
        // A remark.
        let mut sum: Vec<u64>= vec![0; 0xff];
        let near = |a: &&str| a.len() >= 2 && words.len() >> 1 != 0;
        for (place, word) in words.iter().enumerate() { sum[place] += word.len() as u64; }
        Ok(if near(&"it's") { 1e-3 } else { -1.0 })
    }
"#;

#[test]
fn a_version_is_pinned() {
    // A change here means that every recorded version changes: not without a new format of the log.
    assert_eq!(version(CODE), "e8402f4b779a902dc3d8de91d3bfeb7ac940f44dfe3549f82781a8acaf095ecc");
}

#[test]
fn comments_line_breaks_and_formatting_keep_a_version() {
    let kept = [
        ("/// Counts what is seen.", "/// Counts what is to be seen.\n    ///\n    /// At length."),
        ("/// Counts what is seen.", "#[doc = \"Counts.\"]"),
        ("/// Counts what is seen.", ""),
        ("// A remark.", "/* Another\n remark. */"),
        ("let mut sum", "let /* not here */ mut\n\n\tsum"),
        ("Vec<Vec<u8>>", "Vec< Vec < u8 > >"),
        ("Vec<u64>= vec", "Vec<u64> = vec"),
        ("{ 1e-3 } else { -1.0 }", "{1e-3}else{-1.0}"),
        ("(place, word)", "( place,word )"),
        ("Ok(if", "//! No inner comment, for this is a remark as well.\nOk(if"),
        ("a.len() >= 2", "a.len()>=2"),
        ("+= word", "+=word"),
        ("!= 0", "!=0"),
    ];
    for (before, after) in kept {
        let other = CODE.replacen(before, after, 1);
        assert_ne!(other, CODE, "`{before}` is not in the code");
        assert_eq!(version(&other), version(CODE), "{other}");
    }
    assert_eq!(version("fn a() { x=-1 }"), version("fn a() { x = -1 }"));
    assert_eq!(version("fn a() { #![doc = \"a\"] }"), version("fn a() { //! b\n }"));
}

#[test]
fn any_token_changes_a_version() {
    let changed = [
        ("#[must_use]", "#[inline]"),
        ("#[must_use]", "#[must_use] #[doc(hidden)]"),
        ("pub fn", "fn"),
        ("fn seen", "fn looked"),
        ("&Bench", "Bench"),
        ("words: Vec", "mut words: Vec"),
        ("most: Option", "least: Option"),
        ("Result<f64>", "Result<f32>"),
        ("0xff", "255"),
        ("[0; ", "[0, "),
        ("a.len() >= 2", "a.len() > 2"),
        (">> 1", "> 1"),
        ("&&str", "&str"),
        ("2 && words", "2 || words"),
        ("2 && words", "2 & &words"),
        ("!= 0", "== 0"),
        ("+= word", "-= word"),
        ("1e-3", "1e-4"),
        ("-1.0", "1.0"),
        ("-1.0", "-1.00"),
        ("it's", "its"),
        ("it's\"", "it's \""),
        ("as u64; }", "as u64 }"),
        ("(place, word)", "(place, word,)"),
        ("(place, word)", "[place, word]"),
    ];
    for (before, after) in changed {
        let other = CODE.replacen(before, after, 1);
        assert_ne!(other, CODE, "`{before}` is not in the code");
        assert_ne!(version(&other), version(CODE), "{other}");
    }
    let code: Vec<&str> = CODE.lines().filter(|line| !line.contains("//")).flat_map(str::split_whitespace).collect();
    for left_out in 0..code.len() {
        let words = code.iter().enumerate().filter(|(place, _)| *place != left_out).map(|(_, word)| *word);
        // Code without one of its brackets is no row of tokens.
        if let Ok(tokens) = words.collect::<Vec<&str>>().join(" ").parse() {
            assert_ne!(walk::version(&tokens), version(CODE), "without `{}`", code[left_out]);
        }
    }
    assert_ne!(version("a b"), version("ab"));
    assert_ne!(version("f(a)(b)"), version("f(a(b))"));
    assert_ne!(version("'a'"), version("\"a\""));
    assert_ne!(version("a && b"), version("a & &b"));
}
