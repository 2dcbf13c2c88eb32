// wgpu knows no subgroups of a browser's yet: asks for them whenever a device is asked for, and leaves their sizes for the engine.

globalThis.fathomSubgroups = null;

const requestDevice = globalThis.GPUAdapter?.prototype.requestDevice;
if (requestDevice) {
    GPUAdapter.prototype.requestDevice = async function (descriptor = {}) {
        const has = this.features.has('subgroups') && !globalThis.fathomNoSubgroups;
        const requiredFeatures = new Set(descriptor.requiredFeatures ?? []);
        if (has) requiredFeatures.add('subgroups');
        const device = await requestDevice.call(this, { ...descriptor, requiredFeatures: [...requiredFeatures] });
        const { subgroupMinSize, subgroupMaxSize } = this.info;
        globalThis.fathomSubgroups = has && subgroupMinSize ? { min: subgroupMinSize, max: subgroupMaxSize } : null;
        return device;
    };
}
