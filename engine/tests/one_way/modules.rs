//! The modules of a crate and their dependencies, read with `syn`.
//!
//! A module is a file. What is compiled for tests only does not count. Names that a module
//! re-exports are resolved to the file that defines them, at the crate's root as anywhere else;
//! `mod x;` alone is not a use of `x`, a re-export of one of its names is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path from the root of the crate.
type Names = Vec<String>;

/// Files of a crate, by path from its root file's folder.
pub(crate) type Files<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The modules of one crate.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// A module, in a file or inline.
#[derive(Debug, Default)]
struct Module {
    /// The module whose file it is in.
    file: Names,
    /// What it defines.
    defined: BTreeSet<String>,
    /// What it imports or re-exports under a name.
    imported: BTreeMap<String, Names>,
    /// Modules all of whose names it imports.
    globs: Vec<Names>,
    /// Paths in its code, from the crate's root.
    used: BTreeSet<Names>,
}

/// The dependency graph.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

impl Crate {
    /// Reads a crate from its root file, following `mod` declarations.
    pub(crate) fn read(root: &str, files: Files<'_>) -> Self {
        let mut found = Self::default();
        found.read_file(Names::new(), Path::new(root), Path::new(""), files);
        found
    }

    fn read_file(&mut self, module: Names, file: &Path, children: &Path, files: Files<'_>) {
        let text = files(file).unwrap_or_else(|| panic!("{} is there", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| {
            panic!("{}: {error}", file.display());
        });
        self.read_items(module.clone(), module, &syntax.items, children, files);
    }

    fn read_items(
        &mut self,
        module: Names,
        file: Names,
        items: &[syn::Item],
        children: &Path,
        files: Files<'_>,
    ) {
        let items: Vec<_> = items.iter().filter(|item| is_compiled(item)).collect();
        let mods = items.iter().filter_map(|item| match item {
            syn::Item::Mod(inner) => Some(inner),
            _ => None,
        });
        let mut found = Module {
            file: file.clone(),
            ..Module::default()
        };
        for inner in mods {
            let name = inner.ident.to_string();
            let path = [module.as_slice(), std::slice::from_ref(&name)].concat();
            found.defined.insert(name.clone());
            if is_of_another_crate(inner) {
                self.read_items(path, vec![name], &[], children, files);
                continue;
            }
            match &inner.content {
                Some((_, items)) => {
                    self.read_items(path, file.clone(), items, &children.join(&name), files);
                }
                None => {
                    let (file, children) = file_of(inner, children, files);
                    self.read_file(path, &file, &children, files);
                }
            }
        }
        let mut reader = Reader {
            module: &module,
            found,
        };
        let named = items.iter().filter_map(|item| name_of(item));
        reader.found.defined.extend(named);
        // Names first: what they stand for decides what the other items use.
        let (imports, others): (Vec<_>, Vec<_>) = items
            .into_iter()
            .filter(|item| !matches!(item, syn::Item::Mod(_)))
            .partition(|item| matches!(item, syn::Item::Use(_)));
        for item in imports.into_iter().chain(others) {
            reader.visit_item(item);
        }
        let found = reader.found;
        self.modules.insert(module, found);
    }

    /// Which file uses which.
    pub(crate) fn files(&self) -> Graph {
        let mut graph = Graph::new();
        for module in self.modules.values() {
            let own = graph.entry(module.file.join("::")).or_default();
            for path in &module.used {
                let target = self.target(path, 0);
                if let Some(target) = target.filter(|target| *target != module.file) {
                    own.insert(target.join("::"));
                }
            }
        }
        graph
    }

    /// Which module of the root uses which, with all that is below each.
    pub(crate) fn top_level(&self) -> Graph {
        let top = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
        let mut graph = Graph::new();
        for (file, used) in self.files() {
            let own = graph.entry(top(&file)).or_default();
            own.extend(
                used.iter()
                    .map(|used| top(used))
                    .filter(|used| *used != top(&file)),
            );
        }
        graph
    }

    /// The module in whose file the thing is that a path names; `None` for a module itself, whose
    /// import alone uses nothing of it.
    fn target(&self, path: &[String], depth: u32) -> Option<Names> {
        assert!(depth < 20, "{path:?} ends somewhere");
        let mut module = Names::new();
        for (at, name) in path.iter().enumerate() {
            let inner = [module.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&inner) {
                module = inner;
                continue;
            }
            let known = &self.modules[&module];
            if known.defined.contains(name) {
                return Some(known.file.clone());
            }
            if name == "*" {
                return Some(known.file.clone());
            }
            let rest = &path[at + 1..];
            let imports = known
                .imported
                .get(name)
                .map(|import| [import, rest].concat());
            let globs = known.globs.iter().map(|glob| [glob, &path[at..]].concat());
            let beyond = imports.into_iter().chain(globs);
            let own = known.file.clone();
            return beyond
                .filter_map(|path| self.target(&path, depth + 1))
                .next()
                .or(Some(own));
        }
        None
    }
}

/// The file of a module that is declared, and the folder of its own modules.
fn file_of(declared: &syn::ItemMod, folder: &Path, files: Files<'_>) -> (PathBuf, PathBuf) {
    let name = declared.ident.to_string();
    let children = folder.join(&name);
    for attribute in &declared.attrs {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("path")
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(text) = &literal.lit
        {
            return (folder.join(text.value()), children);
        }
    }
    let beside = folder.join(format!("{name}.rs"));
    match files(&beside) {
        Some(_) => (beside, children),
        None => (children.join("mod.rs"), children),
    }
}

/// Whether a module's file lies outside of the crate's sources: it is checked with the crate that
/// it lies in. A path within the sources is followed.
fn is_of_another_crate(module: &syn::ItemMod) -> bool {
    module.attrs.iter().any(|attribute| {
        let syn::Meta::NameValue(syn::MetaNameValue {
            path,
            value:
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(file),
                    ..
                }),
            ..
        }) = &attribute.meta
        else {
            return false;
        };
        path.is_ident("path") && file.value().starts_with("../")
    })
}

/// Whether it is there outside of tests.
fn is_compiled(item: &syn::Item) -> bool {
    use syn::Item::{
        Const, Enum, ExternCrate, Fn, Impl, Macro, Mod, Static, Struct, Trait, Type, Union, Use,
    };
    let attributes = match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        ExternCrate(item) => &item.attrs,
        Fn(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        Type(item) => &item.attrs,
        Union(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => return true,
    };
    !is_for_tests(attributes)
}

/// Conditions under which nothing is in a release program.
const FOR_TESTS: [&str; 2] = ["test", "any (test , debug_assertions)"];

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<TokenStream>()
                .is_ok_and(|condition| FOR_TESTS.contains(&&*condition.to_string()))
    })
}

/// The name that an item defines.
fn name_of(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Collects what the code of one module uses.
struct Reader<'a> {
    module: &'a [String],
    found: Module,
}

impl Reader<'_> {
    /// A path from the crate's root, if it leads to one of the crate's modules.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let mut base = self.module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Names::new(), &path[1..]),
            "self" | "super" => {
                while let Some((first, others)) = rest.split_first()
                    && (first == "self" || first == "super")
                {
                    if first == "super" {
                        base.pop()?;
                    }
                    rest = others;
                }
            }
            first if self.found.imported.contains_key(first) => {
                return Some([&self.found.imported[first], &path[1..]].concat());
            }
            first if self.found.defined.contains(first) => {}
            _ => return None,
        }
        Some([base.as_slice(), rest].concat())
    }

    fn uses(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.found.used.insert(path);
        }
    }

    fn imports(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.imports(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let own = before.last().cloned().unwrap_or_default();
                self.imports_as(before, own);
            }
            syn::UseTree::Name(name) => self.imports_as(&with(&name.ident), name.ident.to_string()),
            syn::UseTree::Rename(renamed) => {
                let path = match renamed.ident == "self" {
                    true => before.to_vec(),
                    false => with(&renamed.ident),
                };
                self.imports_as(&path, renamed.rename.to_string());
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.imports(tree, before);
                }
            }
            syn::UseTree::Glob(_) => {
                if let Some(path) = self.absolute(before) {
                    let all = [path.as_slice(), &["*".to_owned()]].concat();
                    self.found.used.insert(all);
                    self.found.globs.push(path);
                }
            }
        }
    }

    fn imports_as(&mut self, path: &[String], name: String) {
        if let Some(path) = self.absolute(path) {
            self.found.used.insert(path.clone());
            self.found.imported.insert(name, path);
        }
    }

    /// Paths among the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.uses(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.uses(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.uses(&path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_compiled(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.imports(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.uses(&names.collect::<Names>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.tokens(item.tokens.clone());
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        if !is_for_tests(&expression.attrs) {
            visit::visit_expr_if(self, expression);
        }
    }
}

/// Groups of modules that use one another, each as one line.
pub(crate) fn cycles(graph: &Graph) -> Vec<String> {
    let reach: BTreeMap<_, _> = graph
        .keys()
        .map(|from| (from, reached(graph, from)))
        .collect();
    let mut cycles = BTreeSet::new();
    for (from, far) in &reach {
        let back = |to: &&String| reach.get(to).is_some_and(|far| far.contains(*from));
        let members: BTreeSet<_> = far.iter().filter(back).collect();
        if far.contains(*from) {
            cycles.insert(members);
        }
    }
    let name = |module: &str| match module {
        "" => "the crate's root".to_owned(),
        other => other.to_owned(),
    };
    let line = |members: BTreeSet<&String>| {
        let arrows = members.iter().flat_map(|from| {
            let inside = graph[*from].iter().filter(|to| members.contains(to));
            inside.map(|to| format!("{} uses {}", name(from), name(to)))
        });
        arrows.collect::<Vec<_>>().join(", ")
    };
    cycles.into_iter().map(line).collect()
}

fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for used in graph.get(&module).into_iter().flatten() {
            if reached.insert(used.clone()) {
                next.push(used.clone());
            }
        }
    }
    reached
}
