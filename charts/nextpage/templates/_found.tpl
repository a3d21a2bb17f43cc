{{/*
What is installed, decided in one place. Each prints a non-empty word for yes, nothing for no.
Offline, the cluster's APIs are those given by `helm template -a group/version`.
*/}}

{{/* Of (list $ "auto|true|false" "group/version"). */}}
{{- define "nextpage.has" -}}
{{- $wanted := toString (index . 1) -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") ((index . 0).Capabilities.APIVersions.Has (index . 2))) -}}
true
{{- end -}}
{{- end }}

{{- define "nextpage.serving" -}}
{{- include "nextpage.has" (list . .Values.serving.enabled "serving.kserve.io/v1beta1") -}}
{{- end }}

{{/* Arms and route are the chart's own only with this; otherwise the rollout makes them. */}}
{{- define "nextpage.serving.owned" -}}
{{- if and (include "nextpage.serving" .) (eq .Values.serving.owner "chart") -}}true{{- end -}}
{{- end }}

{{- define "nextpage.route" -}}
{{- if include "nextpage.serving.owned" . -}}
{{- include "nextpage.has" (list . .Values.serving.enabled "gateway.networking.k8s.io/v1") -}}
{{- end -}}
{{- end }}

{{/* TrainJobs may run here, whoever brought their runtime. */}}
{{- define "nextpage.training" -}}
{{- if or (eq (toString .Values.training.runtime) "true") (.Capabilities.APIVersions.Has "trainer.kubeflow.org/v1alpha1") -}}true{{- end -}}
{{- end }}

{{- define "nextpage.training.runtime" -}}
{{- include "nextpage.has" (list . .Values.training.runtime "trainer.kubeflow.org/v1alpha1") -}}
{{- end }}

{{- define "nextpage.queued" -}}
{{- $queue := .Values.training.queue -}}
{{- if or (eq (toString $queue.enabled) "true") $queue.clusterQueue -}}
{{- include "nextpage.has" (list . $queue.enabled "kueue.x-k8s.io/v1beta2") -}}
{{- end -}}
{{- end }}

{{/* operator, deployment, or nothing. */}}
{{- define "nextpage.features.mode" -}}
{{- $store := .Values.featureStore -}}
{{- $enabled := toString $store.enabled -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (or $store.registrySecret $store.operator.secret)) -}}
{{- $operator := and $store.operator.secret (.Capabilities.APIVersions.Has "feast.dev/v1") -}}
{{- if eq $store.mode "auto" -}}{{- ternary "operator" "deployment" (not (empty $operator)) -}}
{{- else -}}{{- $store.mode -}}{{- end -}}
{{- end -}}
{{- end }}

{{/* resources, upload, or nothing. */}}
{{- define "nextpage.pipelines.mode" -}}
{{- $install := .Values.pipelines.install -}}
{{- if eq $install "auto" -}}
{{- ternary "resources" "upload" (.Capabilities.APIVersions.Has "pipelines.kubeflow.org/v2beta1") -}}
{{- else if ne $install "none" -}}{{- $install -}}
{{- end -}}
{{- end }}

{{/* Of (list $ "gate|monitoring"). */}}
{{- define "nextpage.recurring" -}}
{{- $root := index . 0 -}}
{{- $run := index $root.Values.pipelines.recurringRuns (index . 1) -}}
{{- $there := $root.Files.Get (printf "files/pipelines/%s.yaml" $run.pipeline) -}}
{{- $moves := or (ne (index . 1) "gate") (and (eq $root.Values.serving.owner "rollout") $run.parameters.rollout) -}}
{{- if or (eq (toString $run.enabled) "true") (and (eq (toString $run.enabled) "auto") $there $moves) -}}
{{- if include "nextpage.pipelines.mode" $root -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* A recurring run's parameters, as JSON: the watch is told of the rollout that the gate looks at, and where runs are
started. Of (list $ "gate|monitoring"). */}}
{{- define "nextpage.parameters" -}}
{{- $pipelines := (index . 0).Values.pipelines -}}
{{- $told := dict -}}
{{- if eq (index . 1) "monitoring" -}}
{{- $told = dict "endpoint" $pipelines.endpoint "rollout" $pipelines.recurringRuns.gate.parameters.rollout -}}
{{- end -}}
{{- range $name, $own := (index $pipelines.recurringRuns (index . 1)).parameters -}}
{{- $_ := set $told $name $own -}}
{{- end -}}
{{- $told | toJson -}}
{{- end }}
