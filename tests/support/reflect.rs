//! What naga finds in a program's text: validity, bindings with their access, `Params`' fields, workgroup memory.
#![allow(dead_code, reason = "each integration test uses its own part of what is found")]

use fathom::gpu::{Access, Needs, Program};
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Handle, Module, Type, TypeInner};

pub struct Reflected {
    pub module: Module,
    pub info: ModuleInfo,
    /// Binding number and access of every resource, ascending.
    pub bindings: Vec<(u32, Access)>,
    /// Names and byte offsets of `struct Params`.
    pub fields: Vec<(String, usize)>,
    pub params_bytes: u32,
    pub shared_bytes: u32,
    pub workgroup: [u32; 3],
}

/// Parses and validates; nothing is allowed that the program does not say it needs.
///
/// # Errors
/// naga's message, with the place in the text.
pub fn reflect(program: &Program) -> Result<Reflected, String> {
    let text = program.wgsl(false);
    let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
    // `unpack2x16float` is core WGSL.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, program.needs(Needs::Subgroups));
    capabilities.set(Capabilities::SHADER_FLOAT16, program.needs(Needs::F16));
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, program.needs(Needs::Coop));
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE).subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(&text))?;

    let [entry] = module.entry_points.as_slice() else {
        return Err(format!("{} entry points", module.entry_points.len()));
    };
    if entry.name != program.name {
        return Err(format!("entry point is named {}", entry.name));
    }
    let size = |ty: Handle<Type>| module.types[ty].inner.size(module.to_ctx());
    let (mut bindings, mut fields, mut params_bytes, mut shared_bytes) = (vec![], vec![], 0, 0);
    for (handle, global) in module.global_variables.iter() {
        if global.space == AddressSpace::WorkGroup {
            shared_bytes += size(global.ty).next_multiple_of(16);
        }
        let Some(binding) = &global.binding else { continue };
        if binding.group != 0 {
            return Err(format!("binding {binding:?}: only group 0 is bound"));
        }
        let access = match global.space {
            AddressSpace::Uniform => Access::Uniform,
            AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => Access::Write,
            AddressSpace::Storage { .. } => Access::Read,
            AddressSpace::Handle => match module.types[global.ty].inner {
                TypeInner::Image { class: naga::ImageClass::Storage { access, .. }, .. } if access.contains(naga::StorageAccess::STORE) => {
                    Access::Write
                }
                _ => Access::Read,
            },
            other => return Err(format!("binding {}: {other:?}", binding.binding)),
        };
        // With an automatic layout what the entry point does not use may not be bound.
        if info.get_entry_point(0)[handle] == GlobalUse::empty() {
            return Err(format!("binding {} ({:?}) is never used", binding.binding, global.name));
        }
        bindings.push((binding.binding, access));
        if binding.binding == 0 {
            let TypeInner::Struct { members, span } = &module.types[global.ty].inner else {
                return Err("binding 0 is no struct".into());
            };
            params_bytes = *span;
            fields = members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize)).collect();
        }
    }
    bindings.sort_by_key(|(number, _)| *number);
    let workgroup = entry.workgroup_size;
    Ok(Reflected { info, bindings, fields, params_bytes, shared_bytes, workgroup, module })
}
