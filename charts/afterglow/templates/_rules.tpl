{{/*
What each role may do. The operator binds agents and schedulers to theirs; Kubernetes lets it because it holds the same rules
itself, which is less than the verb `bind` would give.
*/}}

{{- define "afterglow.agentRules" -}}
- apiGroups: [afterglow.dev]
  resources: [inferenceclusters]
  verbs: [get]
- apiGroups: [afterglow.dev]
  resources: [gpunodes]
  verbs: [get, list, watch, create, patch]
- apiGroups: [afterglow.dev]
  resources: [modelreplicas]
  verbs: [list, watch, patch]
- apiGroups: [afterglow.dev]
  resources: [gpunodes/status, modelreplicas/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, patch]
- apiGroups: [resource.k8s.io]
  resources: [resourceslices]
  verbs: [get, create, patch]
- apiGroups: [resource.k8s.io]
  resources: [resourceclaims]
  verbs: [get, list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "afterglow.agentNamespacedRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, patch]
{{- end }}

{{- define "afterglow.schedulerRules" -}}
- apiGroups: [afterglow.dev]
  resources: [modelreplicas, modeldeployments, gpunodes]
  verbs: [list, watch]
{{- end }}

{{- define "afterglow.operatorRules" -}}
- apiGroups: [afterglow.dev]
  resources: [inferenceclusters]
  verbs: [list, watch, create, patch]
- apiGroups: [afterglow.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [afterglow.dev]
  resources: [inferenceclusters/status, modeldeployments/status]
  verbs: [patch]
# Where owner references are enforced (OpenShift, for one), who sets one with blockOwnerDeletion needs these.
- apiGroups: [afterglow.dev]
  resources: [inferenceclusters/finalizers, modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [afterglow.dev]
  resources: [modelreplicas]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [afterglow.dev]
  resources: [gpunodes]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
# What an agent leaves on a node that it does not serve any more: labels, a slice.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch, patch]
- apiGroups: [resource.k8s.io]
  resources: [resourceslices]
  verbs: [delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterrolebindings]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [resource.k8s.io]
  resources: [deviceclasses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "afterglow.operatorNamespacedRules" -}}
- apiGroups: [apps]
  resources: [daemonsets, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, delete]
{{- end }}
