{{- define "afterglow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Cut at 40, so that suffixes such as -scheduler still fit into 63. */}}
{{- define "afterglow.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "afterglow.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "afterglow.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: afterglow
{{ include "afterglow.selector" . }}
{{- end }}

{{- define "afterglow.selector" -}}
app.kubernetes.io/name: {{ include "afterglow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* (dict "context" $ "image" VALUE "name" NAME) */}}
{{- define "afterglow.image" -}}
{{- if .image }}
{{- .image }}
{{- else }}
{{- $image := .context.Values.image }}
{{- printf "%s/%s:%s" $image.registry .name (default .context.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "afterglow.agentImage" -}}
{{- $name := ternary "afterglow-agent-pocl" "afterglow-agent" (eq .Values.agent.variant "pocl") }}
{{- include "afterglow.image" (dict "context" . "image" .Values.agent.image "name" $name) }}
{{- end }}

{{/* Whether objects of a kind of Prometheus' operator are to be made: (dict "context" $ "kind" KIND); "true" or nothing. */}}
{{- define "afterglow.monitored" -}}
{{- $monitors := .context.Values.metrics.monitors }}
{{- $has := .context.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) }}
{{- if or (eq $monitors "Always") (and (eq $monitors "Auto") $has) }}true{{ end }}
{{- end }}

{{/* Whether pods carry annotations for Prometheus: "true" or "false". */}}
{{- define "afterglow.annotated" -}}
{{- and .Values.metrics.scrapeAnnotations (not (include "afterglow.monitored" (dict "context" . "kind" "PodMonitor"))) }}
{{- end }}

{{- define "afterglow.cluster" -}}
{{- if and (eq .Values.agent.variant "pocl") (ne (default "Forbidden" .Values.cluster.spec.cpuFallback) "Allowed") }}
{{- fail "agent.variant=pocl offers processors, which this cluster forbids; set cluster.spec.cpuFallback=Allowed" }}
{{- end }}
{{- $metadata := dict "name" .Values.cluster.name "labels" (dict "app.kubernetes.io/part-of" "afterglow") }}
{{- dict "apiVersion" "afterglow.dev/v1alpha1" "kind" "InferenceCluster" "metadata" $metadata "spec" .Values.cluster.spec | toPrettyJson }}
{{- end }}
