{{/*
What agents write, and how one sees whose it is. `of` is CEL over `stored` (what is there already, or what is to be made) and gives
the name of the node that the object belongs to; `only` are further conditions on the change.
*/}}

{{- define "afterglow.agentScope" -}}
- kind: GpuNode
  group: afterglow.dev
  version: v1alpha1
  resources: [gpunodes, gpunodes/status]
  of: variables.stored.metadata.name
- kind: ModelReplica
  group: afterglow.dev
  version: v1alpha1
  resources: [modelreplicas, modelreplicas/status]
  of: variables.stored.spec.nodeName
- kind: ResourceSlice
  group: resource.k8s.io
  version: v1
  resources: [resourceslices]
  of: variables.stored.spec.?nodeName.orValue('')
  only:
    # A slice of a newer generation replaces those of its pool, whatever node they name.
    - expression: request.operation == 'DELETE' || (object.spec.driver == 'gpu.afterglow.dev' && object.spec.pool.name == variables.node)
      message: agents publish slices of the driver gpu.afterglow.dev, in the pool that has their node's name
- kind: Node
  group: ""
  version: v1
  resources: [nodes]
  of: variables.stored.metadata.name
  only:
    - expression: >-
        request.operation == 'UPDATE' && object.spec == oldObject.spec
        && object.metadata.?annotations == oldObject.metadata.?annotations
        && object.metadata.?finalizers == oldObject.metadata.?finalizers
        && object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
      message: agents change nothing of a Node but its labels
    - expression: >-
        [object.metadata.?labels.orValue({}), oldObject.metadata.?labels.orValue({})].all(some,
        some.all(key, key in ['afterglow.dev/cluster', 'afterglow.dev/devices'] || key.startsWith('gpu.afterglow.dev/')
        || object.metadata.?labels[?key] == oldObject.metadata.?labels[?key]))
      message: agents change no labels of a Node but afterglow.dev/cluster, afterglow.dev/devices and gpu.afterglow.dev/*
- kind: Lease
  group: coordination.k8s.io
  version: v1
  resources: [leases]
  of: >-
    variables.stored.metadata.name.startsWith('afterglow-node-') ? variables.stored.metadata.name.substring(15) : ''
- kind: Event
  group: events.k8s.io
  version: v1
  resources: [events]
  of: variables.stored.?reportingInstance.orValue('')
{{- end }}
