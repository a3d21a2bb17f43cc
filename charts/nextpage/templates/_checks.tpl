{{/* What a schema cannot say: values that contradict each other, or the cluster. Each refusal names value and remedy. */}}
{{- define "nextpage.checks" -}}
{{- if not (regexMatch "^[a-z]" (include "nextpage.fullname" .)) -}}
{{- fail (printf "release name %q begins with a digit, and a Service's name cannot: set fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- include "nextpage.checks.serving" . -}}
{{- include "nextpage.checks.pipelines" . -}}
{{- include "nextpage.checks.stores" . -}}
{{- end }}

{{- define "nextpage.checks.serving" -}}
{{- $serving := .Values.serving -}}
{{- $control := $serving.releases.control -}}
{{- $treatment := $serving.releases.treatment -}}
{{- if eq $serving.owner "rollout" -}}
{{- if or $control.name $treatment.name -}}
{{- fail "serving.releases is set but serving.owner is rollout, which makes the InferenceServices by itself: leave the releases empty, or set serving.owner to chart" -}}
{{- end -}}
{{- else -}}
{{- if not $control.name -}}
{{- fail "serving.owner is chart but serving.releases.control.name is empty: name the release that serves" -}}
{{- end -}}
{{- if and $serving.treatmentShare (not $treatment.name) -}}
{{- fail (printf "serving.treatmentShare is %v but serving.releases.treatment.name is empty: name the release that takes the share" $serving.treatmentShare) -}}
{{- end -}}
{{- if eq $control.name $treatment.name -}}
{{- fail (printf "serving.releases.control and treatment are both %q: a release stands beside another one" $control.name) -}}
{{- end -}}
{{- if eq (toString .Values.pipelines.recurringRuns.gate.enabled) "true" -}}
{{- fail "pipelines.recurringRuns.gate.enabled is true but serving.owner is chart: the gate moves traffic, so set serving.owner to rollout" -}}
{{- end -}}
{{- range $arm, $release := $serving.releases -}}
{{- if $release.name -}}
{{- include "nextpage.checks.release" (list $ (printf "serving.releases.%s" $arm) $release) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $serving.autoscaling.mostReplicas -}}
{{- if lt (int .) (int $serving.replicas) -}}
{{- fail (printf "serving.autoscaling.mostReplicas is %v, below serving.replicas %v: raise it, or set it to 0 for no autoscaling" . $serving.replicas) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* As serving/rollout/release.py asks. */}}
{{- define "nextpage.checks.release" -}}
{{- $root := index . 0 -}}
{{- $where := index . 1 -}}
{{- $release := index . 2 -}}
{{- if not (and $release.storageUri $release.hash) -}}
{{- fail (printf "%s has the name %q but no storageUri or no hash: both are in the release step's output" $where $release.name) -}}
{{- end -}}
{{- $parts := regexSplit "[/:@]" $release.storageUri -1 -}}
{{- if not (or (has $release.name $parts) (has $release.hash $parts)) -}}
{{- fail (printf "%s.storageUri is %q, which does not hold release %q alone: its path or tag must be the release's name or hash" $where $release.storageUri $release.name) -}}
{{- end -}}
{{- if has (last $parts) (list "latest" "main" "master" "stable" "prod") -}}
{{- fail (printf "%s.storageUri is %q, whose tag moves: its path or tag must be the release's name or hash" $where $release.storageUri) -}}
{{- end -}}
{{- if ne (empty $release.featureService.name) (empty $release.featureService.hash) -}}
{{- fail (printf "%s.featureService needs both name and hash: they are in the release's manifest" $where) -}}
{{- end -}}
{{- if and $release.featureService.name (not (include "nextpage.features.mode" $root)) -}}
{{- fail (printf "%s.featureService is set but there is no feature store: set featureStore.registrySecret" $where) -}}
{{- end -}}
{{- $longest := printf "%s-%s-transformer" (include "nextpage.service" $root) $release.name -}}
{{- if gt (len $longest) 63 -}}
{{- fail (printf "%s.name makes a Service named %q, of %d characters: shorten it or serving.service until there are 63" $where $longest (len $longest)) -}}
{{- end -}}
{{- end }}

{{- define "nextpage.checks.pipelines" -}}
{{- $compiled := .Files.Glob "files/pipelines/*.yaml" -}}
{{- if and (include "nextpage.pipelines.mode" .) (not $compiled) -}}
{{- fail "pipelines.install is not none but the chart holds no pipelines: run `make chart` first, or set pipelines.install to none" -}}
{{- end -}}
{{- with .Values.pipelines.recurringRuns.gate -}}
{{- if and (eq (toString .enabled) "true") (not .parameters.rollout) -}}
{{- fail "pipelines.recurringRuns.gate.enabled is true but its parameters.rollout is empty: give the rollout's settings (components/deploy/README.md)" -}}
{{- end -}}
{{- end -}}
{{- range $name, $run := .Values.pipelines.recurringRuns -}}
{{- if and (eq (toString $run.enabled) "true") (not ($.Files.Get (printf "files/pipelines/%s.yaml" $run.pipeline))) -}}
{{- fail (printf "pipelines.recurringRuns.%s.pipeline is %q, which the chart does not hold: run `make chart`, or set enabled to false" $name $run.pipeline) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.images.requireDigests (include "nextpage.pipelines.mode" .) -}}
{{- range $path, $_ := $compiled -}}
{{- range regexFindAll "(?m)^ *image: .*$" ($.Files.Get $path) -1 -}}
{{- if not (contains "@sha256:" .) -}}
{{- fail (printf "%s names the %s without a digest and images.requireDigests is true: compile it with digests, make chart DIGESTS=build/images/digests.yaml" $path (trim .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "nextpage.checks.stores" -}}
{{- $store := .Values.featureStore -}}
{{- $mode := include "nextpage.features.mode" . -}}
{{- if and (eq $mode "deployment") (not $store.registrySecret) -}}
{{- fail "featureStore.mode is deployment but featureStore.registrySecret is empty: name the Secret that holds the URL of Feast's registry" -}}
{{- end -}}
{{- if and (eq $mode "deployment") (not .Values.redis.enabled) -}}
{{- fail "featureStore needs a Redis but redis.enabled is false: enable it, or give redis.address" -}}
{{- end -}}
{{- if and (eq $mode "operator") (not $store.operator.secret) -}}
{{- fail "featureStore.mode is operator but featureStore.operator.secret is empty: name the Secret with the keys redis and sql" -}}
{{- end -}}
{{- if and .Values.redis.tls (not .Values.redis.address) -}}
{{- fail "redis.tls is true but redis.address is empty: the chart's own Redis speaks no TLS; give the address of one that does" -}}
{{- end -}}
{{- if and .Values.objectStore.secret .Values.objectStore.identityAnnotations -}}
{{- fail "objectStore.secret and objectStore.identityAnnotations are both set: choose the secret or workload identity" -}}
{{- end -}}
{{- if and (eq (toString .Values.training.queue.enabled) "true") (not .Values.training.queue.clusterQueue) -}}
{{- fail "training.queue.enabled is true but training.queue.clusterQueue is empty: name the ClusterQueue that admits TrainJobs" -}}
{{- end -}}
{{- if and (gt (int .Values.training.nodes) 1) .Values.training.checkpoints.create (ne .Values.training.checkpoints.accessMode "ReadWriteMany") -}}
{{- fail (printf "training.nodes is %v but training.checkpoints.accessMode is %s: many nodes write one volume, so set ReadWriteMany or train on 1" .Values.training.nodes .Values.training.checkpoints.accessMode) -}}
{{- end -}}
{{- end }}
