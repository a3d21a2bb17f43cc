{{/* At most 40 characters, so that the longest name made of it stays within 63. */}}
{{- define "nextpage.fullname" -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $own := ternary $release (printf "%s-nextpage" $release) (contains "nextpage" $release) -}}
{{- $name := .Values.fullnameOverride | default $own -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" ($name | trunc 33 | trimSuffix "-") ($name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* The service's name: of its route, its model, its releases. */}}
{{- define "nextpage.service" -}}
{{- .Values.serving.service | default (include "nextpage.fullname" .) -}}
{{- end }}

{{- define "nextpage.redis.address" -}}
{{- .Values.redis.address | default (printf "%s-redis.%s.svc:6379" (include "nextpage.fullname" .) .Release.Namespace) -}}
{{- end }}

{{/* Where servers send what they showed; the password is beside it in NEXTPAGE_REDIS_PASSWORD. */}}
{{- define "nextpage.events" -}}
{{- printf "%s://%s/0" (ternary "rediss" "redis" .Values.redis.tls) (include "nextpage.redis.address" .) -}}
{{- end }}

{{/* What a rollout must be told of this installation, as JSON: the beginning of a run's field `rollout`. */}}
{{- define "nextpage.rollout" -}}
{{- $serving := .Values.serving -}}
{{- $pods := pick $serving "replicas" "cpu" "memory" "gpus" | merge (dict "service_account" (printf "%s-serving" (include "nextpage.fullname" .))) -}}
{{- $told := dict "service" (include "nextpage.service" .) "namespace" .Release.Namespace "hostnames" $serving.hostnames "gateway" (list $serving.gateway.namespace $serving.gateway.name) "pods" $pods "records" "/records" "events" "/records/events" -}}
{{- if .Values.redis.enabled -}}
{{- $_ := set $told "event_stream" (include "nextpage.events" .) -}}
{{- end -}}
{{- with $serving.autoscaling -}}
{{- if .mostReplicas -}}
{{- $_ := set $told "autoscaling" (dict "prometheus" .prometheus "most_replicas" .mostReplicas "in_flight" .inFlight) -}}
{{- end -}}
{{- end -}}
{{- $told | toJson -}}
{{- end }}

{{/* Feast's online server, however it is run. */}}
{{- define "nextpage.features.url" -}}
{{- if eq (include "nextpage.features.mode" .) "operator" -}}
http://feast-{{ include "nextpage.fullname" . }}-online.{{ .Release.Namespace }}.svc
{{- else -}}
http://{{ include "nextpage.fullname" . }}-features.{{ .Release.Namespace }}.svc:6566
{{- end -}}
{{- end }}

{{/* What never changes while a pod lives. Of (list $ "component"). */}}
{{- define "nextpage.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: nextpage
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a pod: the selector, and the name by which the network policies know every pod of Nextpage. */}}
{{- define "nextpage.pod.labels" -}}
{{ include "nextpage.selector" . }}
app.kubernetes.io/part-of: nextpage
{{- end }}

{{- define "nextpage.labels" -}}
{{- $root := index . 0 -}}
{{ include "nextpage.pod.labels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* metadata of an object. Of (list $ "component" "suffix"); without a suffix the bare full name. */}}
{{- define "nextpage.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "nextpage.fullname" $root }}{{ with index . 2 }}-{{ . }}{{ end }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "nextpage.labels" . | nindent 2 }}
{{- end }}
