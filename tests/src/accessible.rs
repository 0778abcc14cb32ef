//! Checks a page in Chromium for people who cannot see it, or not well, or have only a keyboard.
//!
//! Chromium's own tree of accessible objects says which names and roles such people get; what it does not judge, such as
//! contrast, `accessible.js` does; and the key Tab shows what can be reached, in which order, and whether it is seen.

use std::collections::BTreeMap;
use std::{env, fs};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::browser::Browser;

/// The rules for what a document says of itself.
const RULES: &str = include_str!("accessible.js");

/// The variable that has axe-core run too.
const AXE: &str = "RINGFENCE_AXE";

/// All of its rules: those of WCAG and its own.
const RUN_AXE: &str = "\nreturn axe.run().then(found => { \
    if (found.passes.length < 10) throw new Error('axe-core has looked at nothing'); \
    return found.violations.map(broken => ['axe-core', broken.id, broken.help, \
        ...broken.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]); });";

/// What has the focus: its place among all elements, whether it is seen, and how it is marked.
const FOCUSED: &str = "(() => { const e = document.activeElement; const s = getComputedStyle(e); \
    const r = e.getBoundingClientRect(); return { \
    place: Array.from(document.querySelectorAll('*')).indexOf(e), \
    is_body: e === document.body, \
    is_seen: r.right > 0 && r.bottom > 0 && r.left < innerWidth && r.width > 0, \
    is_marked: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, \
    says: e.outerHTML.slice(0, 120) }; })()";

/// How many elements can be reached.
const REACHABLE: &str = "Array.from(document.querySelectorAll('a[href], button, input, summary'))\
    .filter(e => e.checkVisibility()).length";

/// The most elements through which the focus is moved.
const STEPS_MAX: u64 = 60;

/// Roles whose objects need a name.
const NAMED: [&str; 11] = [
    "button",
    "columnheader",
    "heading",
    "image",
    "img",
    "link",
    "navigation",
    "searchbox",
    "table",
    "textbox",
    "RootWebArea",
];

/// What is wrong with the page that is open.
///
/// # Errors
///
/// If the browser does not say.
pub fn problems(browser: &Browser) -> anyhow::Result<Vec<String>> {
    let found = browser.value(RULES)?;
    let found = found.as_array().context("a list of problems")?.iter();
    let mut problems: Vec<String> =
        found.map(|one| one.as_str().unwrap_or_default().to_owned()).collect();
    let objects = objects(browser)?;
    problems.extend(unnamed(&objects));
    problems.extend(landmarks(&objects));
    problems.extend(tables(browser, &objects)?);
    problems.extend(axe(browser)?);
    Ok(problems)
}

/// What axe-core finds, which no package of Debian has: the variable names its file `axe.min.js`.
fn axe(browser: &Browser) -> anyhow::Result<Vec<String>> {
    let Some(file) = env::var_os(AXE) else { return Ok(Vec::new()) };
    let axe = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let found = browser.run(&(axe + RUN_AXE))?;
    let found = found.as_array().context("what axe-core finds")?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// What is wrong if somebody moves through the page with the key Tab.
///
/// # Errors
///
/// If the browser does not say.
pub fn problems_of_focus(browser: &Browser) -> anyhow::Result<Vec<String>> {
    let reachable = browser.value(REACHABLE)?.as_u64().context("a number")?;
    browser.value("document.activeElement.blur()")?;
    let (mut problems, mut last) = (Vec::new(), -1);
    let steps = usize::try_from(reachable.min(STEPS_MAX))?;
    for (step, focused) in browser.press_tab(steps, FOCUSED)?.into_iter().enumerate() {
        let says = focused["says"].as_str().unwrap_or_default();
        if focused["is_body"] == true {
            problems.push(format!("only {step} of {reachable} elements can be reached"));
            break;
        }
        if step == 0 && !says.contains("href=\"#main\"") {
            problems.push(format!("the first is no link to the content: {says}"));
        }
        let place = focused["place"].as_i64().unwrap_or(-1);
        if place <= last {
            problems.push(format!("it comes too late: {says}"));
        }
        last = place;
        for (key, what) in [("is_seen", "it is not seen"), ("is_marked", "it is not marked")] {
            if focused[key] != true {
                problems.push(format!("when it has the focus {what}: {says}"));
            }
        }
    }
    Ok(problems)
}

/// An object that assistive programs get.
#[derive(Debug)]
struct Object {
    role: String,
    name: String,
}

fn objects(browser: &Browser) -> anyhow::Result<Vec<Object>> {
    browser.tools("Accessibility.enable", &json!({}))?;
    let tree = browser.tools("Accessibility.getFullAXTree", &json!({}))?;
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().trim().to_owned();
    let nodes = tree["nodes"].as_array().context("a tree of accessible objects")?.iter();
    let nodes = nodes.filter(|node| node["ignored"] != true);
    Ok(nodes.map(|node| Object { role: text(&node["role"]), name: text(&node["name"]) }).collect())
}

/// Objects that need a name and have none.
fn unnamed(objects: &[Object]) -> impl Iterator<Item = String> {
    let unnamed = objects.iter().filter(|one| NAMED.contains(&&*one.role) && one.name.is_empty());
    unnamed.map(|one| format!("an object of the role {} has no name", one.role))
}

/// The parts of a page between which one can jump: each is there, once.
fn landmarks(objects: &[Object]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in objects {
        *counts.entry(&one.role).or_default() += 1;
    }
    let of = |role| counts.get(role).copied().unwrap_or(0);
    let parts = ["main", "banner", "contentinfo", "navigation"].into_iter().filter_map(|role| {
        let is_right = if role == "navigation" { of(role) >= 1 } else { of(role) == 1 };
        (!is_right).then(|| format!("there are {} objects of the role {role}", of(role)))
    });
    parts.collect()
}

/// Tables are tables for assistive programs too, also where they look like something else.
fn tables(browser: &Browser, objects: &[Object]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    // What is closed or not shown is no object.
    for (role, query) in
        [("table", "table"), ("row", "tr"), ("cell", "td"), ("rowheader", "tbody th")]
    {
        let there = browser.value(&format!(
            "Array.from(document.querySelectorAll('{query}')).filter(e => e.checkVisibility()).length"
        ))?;
        let there = usize::try_from(there.as_u64().context("a number")?)?;
        let told = objects
            .iter()
            .filter(|one| one.role == role || one.role == "gridcell" && role == "cell")
            .count();
        if there != told {
            problems.push(format!("of {there} elements `{query}`, {told} have the role {role}"));
        }
    }
    Ok(problems)
}
