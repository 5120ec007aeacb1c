//! The log in a browser and in reports: what is shown, and what is refused.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use arrakis::log_pages::LogPages;
use arrakis_bench::Log;
use tiny_http::Server;

use crate::fixtures::{root, say};
use crate::graph::browser::Browser;

const PORT: u16 = 7447;

/// Runs the command; its exit status and what it said.
fn arrakis(arguments: &[&str]) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = ::arrakis::command::run(["arrakis"].iter().chain(arguments), &mut out, &mut err);
    (status, String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap())
}

/// A log of two runs of one tool: their ids, the earlier first.
fn logged(folder: &Path) -> (Log, [String; 2]) {
    let model = root().join("tests/golden/gpt2");
    let log = folder.to_str().unwrap();
    for tokens in ["1,2,3,4", "1,2,4,3"] {
        let model = model.to_str().unwrap();
        let (status, said) = arrakis(&["--log", log, "ask", "logit_lens.lens", "--model", model, "--tokens", tokens]);
        assert_eq!(status, 0, "{said}");
    }
    let log = Log::open(folder);
    let ids: Vec<String> = log.list().unwrap().into_iter().map(|record| record.id).collect();
    (log, ids.try_into().unwrap())
}

#[test]
fn runs_are_listed_shown_and_compared_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, [first, second]) = logged(&folder.path().join("log"));
    let run = log.run_folder(&first);
    fs::write(run.join("stray.txt"), "not in the record").unwrap();
    fs::write(folder.path().join("secret.txt"), "outside the log").unwrap();
    let pages = LogPages::new(log, PORT);
    let host = Some("127.0.0.1:7447");
    let get = |path: &str| {
        let reply = pages.reply("GET", host, path);
        (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
    };
    let (status, list) = get("/");
    assert!(status == 200 && list.contains(&first) && list.contains(&second) && list.contains("logit_lens.lens"));
    let (status, page) = get(&format!("/run/{first}"));
    assert!(status == 200 && page.contains("completed") && page.contains(&format!("/compare/{second}/{first}")));
    assert!(page.contains(&format!("/run/{first}/result.json")));
    let (status, compared) = get(&format!("/compare/{first}/{second}"));
    assert!(status == 200 && compared.contains("parameters") && compared.contains("numbers apart"), "{compared}");
    let (status, json) = get(&format!("/run/{first}/result.json?x=1"));
    assert!(status == 200 && json.starts_with('{'));

    for path in [
        "/x".to_owned(),
        "/run/".to_owned(),
        format!("/run/{}", &first[..4]),
        "/run/../../secret.txt".to_owned(),
        format!("/run/{first}/stray.txt"),
        format!("/run/{first}/../../../secret.txt"),
        format!("/run/{first}/..%2f..%2f..%2fsecret.txt"),
        format!("/run/{first}/run.json"),
        format!("/compare/{first}/nothing"),
        "/run/..".to_owned(),
    ] {
        let (status, body) = get(&path);
        assert!(status == 404 && !body.contains("secret") && !body.contains("outside"), "{path}: {status} {body}");
    }
    // A file of the record that was replaced by a link out of the log.
    #[cfg(unix)]
    {
        fs::remove_file(run.join("result.json")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), run.join("result.json")).unwrap();
        assert_eq!(get(&format!("/run/{first}/result.json")).0, 404);
        assert_eq!(get(&format!("/run/{first}")).0, 200, "a damaged result spoils no page");
    }
    for host in
        [None, Some("evil.example:7447"), Some("127.0.0.1"), Some("127.0.0.1:80"), Some("127.0.0.1:7447.evil.example")]
    {
        assert_eq!(pages.reply("GET", host, "/").status, 403, "{host:?}");
    }
    assert_eq!(pages.reply("GET", Some("localhost:7447"), "/").status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(pages.reply(method, host, "/").status, 405);
    }
}

#[test]
fn a_server_answers_over_a_socket_and_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let (log, [first, second]) = logged(folder.path());
    let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
    let port = server.server_addr().to_ip().unwrap().port();
    let serving = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || LogPages::new(log, port).serve(&server))
    };
    let ask = |host: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask(&format!("127.0.0.1:{port}"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&first) && answer.contains("nosniff"));
    assert!(ask("evil.example").starts_with("HTTP/1.1 403"));
    match Browser::start() {
        None => say("the log in a browser: skipped, no Chromium is installed"),
        Some(mut browser) => {
            browser.open(&format!("http://127.0.0.1:{port}/"), "document.querySelectorAll('tbody tr').length === 2");
            browser.keep_screenshot("log-list");
            let ready = "[...document.querySelectorAll('.widget')].every((widget) => widget.dataset.ready)";
            browser.open(&format!("http://127.0.0.1:{port}/compare/{first}/{second}"), ready);
            browser.keep_screenshot("log-compare");
            browser.open(&format!("http://127.0.0.1:{port}/run/{first}"), ready);
            assert_eq!(browser.text("h1"), "logit_lens.lens");
            browser.keep_screenshot("log-run");
            let own = format!("http://127.0.0.1:{port}/");
            assert!(browser.requests.iter().all(|address| address.starts_with(&own)), "{:?}", browser.requests);
        }
    }
    server.unblock();
    serving.join().unwrap();
}

#[test]
fn a_report_holds_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (_, [first, second]) = logged(&log);
    let (log, out) = (log.to_str().unwrap(), folder.path().join("report.html"));
    let out = out.to_str().unwrap();
    let (status, said) = arrakis(&["--log", log, "report", &first[..8], &second, "--out", out, "--title", "Lenses"]);
    assert_eq!(status, 0, "{said}");
    let page = fs::read_to_string(out).unwrap();
    assert!(page.contains("<title>Lenses</title>") && page.contains(&first) && page.contains(&second));
    assert!(page.contains("<summary>parameters</summary>") && page.matches("class=\"widget\"").count() >= 2);
    for (arguments, wanted, exit) in [
        (vec!["report", "nothing", "--out", out], "no run", 1),
        (vec!["report", &first, "--out", "x.png"], "ends in `.html`", 2),
        (vec!["report", &first, "--out", "/nowhere/x.html"], "there is no folder", 1),
    ] {
        let (status, said) = arrakis(&[&["--log", log], &arguments[..]].concat());
        assert!(status == exit && said.contains(wanted), "{status} {said}");
    }
}

#[test]
fn plots_are_drawn_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("tests/golden/gpt2");
    let (model, out) = (model.to_str().unwrap(), folder.path().join("x.svg"));
    let out = out.to_str().unwrap();
    let (status, said) = arrakis(&["plot"]);
    assert!(status == 0 && said.contains("residual_stream") && said.contains("Of an answer:"), "{said}");
    let (status, said) =
        arrakis(&["plot", "attention", "--model", model, "--tokens", "1,2,3", "--head", "0", "--out", out]);
    assert_eq!((status, said), (0, format!("drew {out}\n")));
    assert!(fs::read_to_string(out).unwrap().starts_with("<svg"));
    let (status, said) =
        arrakis(&["--no-log", "plot", "logit_lens", "--model", model, "--tokens", "1,2,3", "--dark", "--out", out]);
    assert_eq!(status, 0, "{said}");
    let picture = |more: &[&str]| {
        let (status, said) =
            arrakis(&[&["plot", "attention", "--model", model, "--tokens", "1,2,3;4,5", "--out", out], more].concat());
        assert_eq!(status, 0, "{said}");
        fs::read_to_string(out).unwrap()
    };
    assert_ne!(picture(&["--row", "0"]), picture(&["--row", "1"]));
    let one = picture(&["--row", "0", "--head", "L1H2"]);
    assert_eq!(one, picture(&["--row", "0", "--head", "2", "--points", "blocks.1.*"]));
    assert_ne!(one, picture(&["--row", "0", "--head", "2"]));
    let log = folder.path().join("log");
    let (_, [first, second]) = logged(&log);
    let log = log.to_str().unwrap();
    let lens = ["--log", log, "plot", "logit_lens", "--run", &first, "--out", out];
    for (arguments, wanted, exit) in [
        (
            vec!["plot", "attention", "--model", model, "--tokens", "1;2", "--out", out],
            "give `--row 0` to `--row 1`",
            2,
        ),
        (vec!["plot", "attention", "--model", model, "--tokens", "1", "--head", "L1", "--out", out], "or `L1H9`", 2),
        (
            vec![
                "plot",
                "attention",
                "--model",
                model,
                "--tokens",
                "1",
                "--head",
                "L0H1",
                "--head",
                "L1H1",
                "--out",
                out,
            ],
            "is of one layer",
            2,
        ),
        ([&lens[..], &["--part", "lens", "--part", "nope"]].concat(), "has no part `nope`; it has `lens`", 1),
        ([&lens[..], &["--run", &second, "--part", "nope"]].concat(), "has no part `nope`; it has `lens`", 1),
        (
            vec!["--log", log, "plot", "difference", "--run", &first, "--out", out],
            "compares two answers; give two `--run ID`",
            2,
        ),
        (vec!["plot", "atention", "--out", out], "the nearest is `attention`", 2),
        (vec!["plot", "attention", "--model", model, "--tokens", "1,2"], "nothing to draw to", 2),
        (vec!["plot", "attention", "--out", out], "give `--model MODEL`", 2),
        (vec!["plot", "attention", "--model", model, "--tokens", "1,2", "--out", "x.pdf"], "`.html`", 2),
        (vec!["plot", "scatter", "--out", out], "give `--tool TOOL`", 2),
        (
            vec!["plot", "attention", "--model", model, "--tokens", "1", "--head", "99", "--out", out],
            "head 99 is out of range",
            1,
        ),
        (
            vec!["plot", "attention", "--width", "7", "--model", model, "--tokens", "1", "--out", out],
            "must lie between",
            2,
        ),
    ] {
        let (status, said) = arrakis(&arguments);
        assert!(status == exit && said.contains(wanted), "{status} {said}");
    }
}
